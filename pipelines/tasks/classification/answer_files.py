"""Class scores of many images as a table. Torch-free."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.tasks.answer_files import AnswerJson, AnswerTable


class ScoreTable(AnswerTable):
    """One row for each image; the score of a class that was not requested, or is not above its threshold, is empty."""

    def columns(self) -> list[str]:
        return ["label", "score", *(f"score:{category.name}" for category in self.categories)]

    def rows(self, answer: AnswerJson) -> Iterable[Sequence[Any]]:
        scores = {row["label"]: row["score"] for row in answer["labels"]}
        best = [answer["labels"][0]["label"], answer["labels"][0]["score"]] if answer["labels"] else ["", ""]
        yield [*best, *(scores.get(category.name, "") for category in self.categories)]
