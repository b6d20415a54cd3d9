"""Dotted names set fields of the document; folders come from options, then from the environment."""

import argparse
from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError
from pipelines.command_line.arguments import add_data_options, dotted_overrides, places_of


def test_override_is_written_with_a_space_or_an_equals_sign() -> None:
    assert dotted_overrides(["--a.b", "1", "--c=x=y", "--d", "-1", "--e="]) == [
        ("a.b", "1"), ("c", "x=y"), ("d", "-1"), ("e", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a.b=1"], "got 'a.b=1'; fields of the document are set as --name.of.field value"),
        (["--"], "got '--'"),
        (["--=1"], "got '--=1'"),
        (["--a.b"], "--a.b: has no value"),
    ],
)
def test_invalid_override_is_reported(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dotted_overrides(words)
    assert expected in str(caught.value)


def places(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_data_options(parser)
    return parser.parse_args(words)


def test_places_come_from_the_options_then_the_environment_then_the_working_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYRAMIDION_DATA_ROOTS", raising=False)
    monkeypatch.delenv("PYRAMIDION_WEIGHTS_ROOTS", raising=False)
    assert places_of(places()).data_roots == [Path()]
    assert places_of(places()).weights_roots == [Path()]
    monkeypatch.setenv("PYRAMIDION_DATA_ROOTS", "/a:/b")
    monkeypatch.setenv("PYRAMIDION_WEIGHTS_ROOTS", "/w")
    assert places_of(places()).data_roots == [Path("/a"), Path("/b")]
    assert places_of(places()).weights_roots == [Path("/w")]
    given = places_of(places("--data-root", "/c", "--data-root", "/d", "--data.root", "/any"))
    assert (given.data_roots, given.data_root) == ([Path("/c"), Path("/d")], Path("/any"))
