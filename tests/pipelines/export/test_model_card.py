"""The card of an export shows names as they are."""

from pathlib import Path

from pipelines.base.records import Category
from pipelines.export.model_card import model_card
from pipelines.spec.job import JobSpec
from tests.channel_means import write_channel_means


def test_names_of_classes_are_neither_markdown_nor_lines_of_their_own(scene_job: JobSpec, tmp_path: Path) -> None:
    variant = write_channel_means(tmp_path / "export", scene_job)
    names = ("a\n# title", "<img src=x>", "back\\slash `code`", "lone \udc80", "müller")
    categories = {"scene": tuple(Category(number, name) for number, name in enumerate(names, 1))}
    card = model_card(variant.model_copy(update={"categories": categories}), "job")
    (line,) = [line for line in card.encode().decode().split("\n") if line.startswith("- `scene`")]
    shown = line.removeprefix("- `scene`: classification of ").split(", ")
    assert shown == [r"a\\n\# title", r"\<img src=x\>", r"back\\slash \`code\`", r"lone \\x80", "müller"]
