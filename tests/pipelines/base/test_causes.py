"""Findings of one cause are one line with a count."""

from typing import Any

import pytest

from pipelines.base.causes import causes_of
from pipelines.base.findings import Finding


def found(message: str, **place: Any) -> Finding:
    return Finding("broken_entry", message, "s", "train", **place)


def test_one_finding_is_described_as_it_is() -> None:
    finding = found("has no 'bbox'", file="train.json", annotation_id=4)
    assert [cause.describe() for cause in causes_of([finding])] == [str(finding)]


def test_equal_messages_are_one_line_with_the_count_and_some_places() -> None:
    findings = [found("has no 'bbox'", file="train.json", annotation_id=number) for number in range(262)]
    (cause,) = causes_of(findings)
    assert cause.describe() == (
        "train.json, annotation 0: has no 'bbox' (262 times, also at annotation 1, annotation 2, annotation 3, ...)"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("bbox is [1, 2, 3]; write four numbers", "bbox is [7]; write four numbers"),
        ("has no area, (30, 8, 0, 12)", "has no area, (1.5, 8, -1, 1e+07)"),
        ('iscrowd is "yes"; write 0 or 1', 'iscrowd is "maybe"; write 0 or 1'),
        ("line 3 has 2 cells", "line 4711 has 1 cells"),
    ],
)
def test_messages_that_differ_in_values_have_one_cause(first: str, second: str) -> None:
    findings = [found(first, file="f", image="a.png"), found(second, file="f", image="b.png")]
    (cause,) = causes_of(findings)
    assert cause.describe() == f"f, a.png: {first} (2 times, also at b.png)"


@pytest.mark.parametrize(
    ("first", "second"), [("has no 'bbox'", "has no 'image_id'"), ("is missing in 'images'", "leaves 'images'")]
)
def test_messages_that_differ_in_names_are_separate_causes(first: str, second: str) -> None:
    findings = [found(first, file="f", image="a.png"), found(second, file="f", image="b.png")]
    assert len(causes_of(findings)) == 2


def test_findings_without_a_place_are_never_merged_unless_they_are_equal() -> None:
    assert len(causes_of([found("'class 1' is unused, 1 of 2"), found("'class 1' is unused, 2 of 2")])) == 2


def test_a_given_cause_decides_and_the_most_frequent_one_comes_first() -> None:
    rare = found("is the same as 'z'", image="z.png", cause="other")
    findings = [rare, *(found(f"equals '{name}'", file=f"{name}.png", cause="equal") for name in "abc")]
    causes = causes_of(findings)
    assert [cause.describe() for cause in causes] == [
        "a.png: equals 'a' (3 times, also at b.png, c.png)",
        "z.png: is the same as 'z'",
    ]


def test_sources_and_splits_are_separate_causes() -> None:
    findings = [Finding("no_labels", "x", source, split) for source in "ab" for split in ("train", "val")]
    assert len(causes_of(findings)) == 4


NAME = "n" * 190 + " " + "m" * 190


@pytest.mark.parametrize(("opening", "closing"), [("'", "'"), ('"', '"'), ("['a', '", "']")])
def test_long_values_lose_their_middle_in_the_text_and_not_in_json(opening: str, closing: str) -> None:
    finding = found(f"the user's class {opening}{NAME}{closing} isn't declared; rename it", file="f/" + NAME)
    (cause,) = causes_of([finding])
    text = cause.describe()
    assert text.startswith("f/nnn")
    assert text.endswith(f"mmm{closing} isn't declared; rename it")
    assert f"the user's class {opening}nnn" in text
    assert text.count("...") == 2
    assert len(text) < 460
    assert (NAME in finding.to_dict()["message"], NAME in finding.to_dict()["file"]) == (True, True)


def test_sentences_and_commands_are_not_shortened() -> None:
    command = f"`pyramidion data split --config {'deep/' * 60}job.yaml`"
    message = f"the user's file {'is long and ' * 30} isn't short; run {command}"
    assert found(message).message in str(found(message))
