"""Errors of processes that load data are those of the same data without such processes."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.base.errors import DataError, FieldProblem, RankError
from pipelines.data.decoding.opening import TooManyPixels
from pipelines.data.loading.datamodule import JobData

DataWith = Callable[..., JobData]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("split", ["train", "val"])
def test_error_of_an_image_keeps_its_message_and_type(data_with: DataWith, split: Any, num_workers: int) -> None:
    data = data_with(num_workers=num_workers)
    path = data.records(split)[1].path
    path.write_bytes(path.read_bytes()[:-200])
    loader = data.train_dataloader() if split == "train" else data.loader(split)
    with pytest.raises(DataError) as caught:
        list(loader)
    (problem,) = caught.value.problems
    assert problem.field == str(path)
    assert problem.message.startswith("cannot be decoded")
    assert "\n" not in str(caught.value)


def test_errors_pass_to_another_process_unchanged() -> None:
    problems = [FieldProblem("a.png", "is missing"), FieldProblem("b.png", "is missing")]
    copy = pickle.loads(pickle.dumps(TooManyPixels(problems)))
    assert (type(copy), copy.problems, str(copy)) == (TooManyPixels, problems, "a.png: is missing\nb.png: is missing")
    rank_error = pickle.loads(pickle.dumps(RankError("process 1 ended", 78, "data_invalid")))
    assert (str(rank_error), rank_error.exit_code, rank_error.failure_kind) == ("process 1 ended", 78, "data_invalid")
