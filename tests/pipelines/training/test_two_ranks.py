"""Two processes evaluate, stop and resume like one.

Two processes are spawned once and run all scenarios (two_ranks.py); the tests check the files that they write.
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from pipelines.base.cores import num_cores
from pipelines.base.errors import NumericsError
from pipelines.data.synth.dataset import write_synthetic
from pipelines.run.evaluate_run import score_run
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir
from tests.pipelines.run.interruption import differences
from tests.pipelines.training.two_ranks import NO_PLACES, run_rank
from tests.ranks import run_ranks

Document = dict[str, Any]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """17 train images: a last batch of one on each rank; 5 val images; fewer test images than ranks."""
    root = tmp_path_factory.mktemp("data") / "demo"
    write_synthetic(root, num_train=17, num_val=5, num_test=1, image_size=128)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small: Document, data_root: Path) -> Path:
    """Folder in which both processes ran all scenarios."""
    path = tmp_path_factory.mktemp("ranks")
    document = copy.deepcopy(small)
    document["trainer"]["devices"] = 2
    document["model"]["tasks"]["identity"]["gallery"] = "train"
    run_ranks(run_rank, 2, path, data_root, document)
    return path


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[Document]:
    """Return the recorded outcomes of each rank."""
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_run_of_two_processes_ends_with_one_result(ranks: list[Document], folder: Path) -> None:
    assert [rank["whole"] for rank in ranks] == ["done", "done"]
    result = json.loads((folder / "whole" / "result.json").read_text())
    assert result["split"] == "test"
    found = {path.name for path in (folder / "whole" / "predictions").iterdir()}
    assert found == {"identity.npz", "scene.csv", "shapes.coco.json"}
    assert [path.name for path in (folder / "whole" / "attempts").iterdir()] == ["1"]


def evaluations(folder: Path, command: str) -> list[Path]:
    return sorted((folder / "whole" / "eval").glob(f"{command}-*"))


@pytest.fixture(scope="module")
def scored_by_one(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return the result folders of two processes and of one process, by command."""
    pairs = {}
    for command, split in (("validate", "val"), ("test", "test")):
        (by_two,) = evaluations(folder, command)
        score_run(command, folder / "whole", split, NO_PLACES, [("trainer.devices", "1")])  # type: ignore[arg-type]
        (by_one,) = set(evaluations(folder, command)) - {by_two}
        pairs[command] = by_two, by_one
    return pairs


def close(one: Any, other: Any) -> bool:
    return one is other if one is None or other is None else one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_two_processes_and_one_compute_the_same_scores_of_a_checkpoint(
    command: str, folder: Path, scored_by_one: dict[str, tuple[Path, Path]]
) -> None:
    by_two, by_one = (json.loads((path / "result.json").read_text())["summary"] for path in scored_by_one[command])
    assert by_two.keys() == by_one.keys()
    assert all(close(by_two[name], by_one[name]) for name in by_two)
    of_run = json.loads((folder / "whole" / "result.json").read_text())
    in_training = of_run["val"]["summary"] if command == "validate" else of_run["summary"]
    assert all(close(in_training[name], by_one[name]) for name in by_one)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_two_processes_and_one_predict_the_same(command: str, scored_by_one: dict[str, tuple[Path, Path]]) -> None:
    by_two, by_one = (path / "predictions" for path in scored_by_one[command])
    boxes_two, boxes_one = (json.loads((path / "shapes.coco.json").read_text()) for path in (by_two, by_one))
    assert len(boxes_two) == len(boxes_one) > 0
    for two, one in zip(boxes_two, boxes_one, strict=True):
        assert (two["image_id"], two["category_id"]) == (one["image_id"], one["category_id"])
        assert two["bbox"] == pytest.approx(one["bbox"], abs=0.01)
        assert two["score"] == pytest.approx(one["score"], abs=1e-4)
    with np.load(by_two / "identity.npz") as two, np.load(by_one / "identity.npz") as one:
        assert two["annotation_id"].tolist() == one["annotation_id"].tolist()
        np.testing.assert_allclose(two["embedding"], one["embedding"], atol=1e-4)
    two, one = (pandas.read_csv(path / "scene.csv").filter(like="score:") for path in (by_two, by_one))
    assert len(two) == (4 if command == "validate" else 1)  # one of val is not labeled
    np.testing.assert_allclose(two, one, atol=1e-4)


def test_stop_requested_on_one_rank_ends_both_at_the_same_step(ranks: list[Document]) -> None:
    assert {rank["stopped"] for rank in ranks} == {"Stopped: stopped in epoch 2 of 2, after step 3"}


def test_stop_requested_on_one_rank_between_two_stages_ends_both(ranks: list[Document]) -> None:
    message = "Stopped: stopped before evaluating"
    assert [rank["stop of rank 0"] for rank in ranks] == [message, message]


def test_rank_that_has_not_met_rank_0_does_not_stop_alone(ranks: list[Document]) -> None:
    message = "Stopped: stopped before training"
    assert [rank["stop before ranks have met"] for rank in ranks] == [message, "done"]


@pytest.mark.parametrize(("place", "epoch", "step"), [("validation", 0, 2), ("gallery", 1, 4)])
def test_stop_requested_on_one_rank_in_an_evaluation_pass_ends_both(
    place: str, epoch: int, step: int, ranks: list[Document]
) -> None:
    message = f"Stopped: stopped in epoch {epoch + 1} of 2, after step {step}"
    assert [rank[f"up to {place}"] for rank in ranks] == [message] * 2


def test_rank_evaluates_no_batch_after_a_stop_request(ranks: list[Document]) -> None:
    assert ranks[1]["gallery batches"] == 1


@pytest.mark.parametrize("name", ["last_checkpoint", "best_checkpoint"])
@pytest.mark.parametrize(
    ("run", "outcome"),
    [("stopped", "resumed"), ("halts", "up to end")],
    ids=["inside_an_epoch", "in_evaluation"],
)
def test_resumed_run_equals_the_uninterrupted_one(
    run: str, outcome: str, name: str, ranks: list[Document], folder: Path
) -> None:
    assert [rank[outcome] for rank in ranks] == ["done", "done"]
    whole, resumed = (torch.load(getattr(RunDir.of(folder / r), name), weights_only=True) for r in ("whole", run))
    for content in (whole, resumed):
        content.get("callbacks", {}).pop("Progress", None)  # depends on the time
    assert differences(whole, resumed) == []


def test_run_stopped_in_validation_reports_each_score_once(ranks: list[Document], folder: Path) -> None:
    reported = [
        [(event.epoch, event.data) for event in read_events(folder / run / "events.jsonl") if is_metric(event)]
        for run in ("whole", "halts")
    ]
    assert [epoch for epoch, _ in reported[0]] == [0, 1]
    assert reported[0] == reported[1]


def is_metric(event: Document) -> bool:
    return bool(event.kind == "metric")


def test_each_rank_keeps_its_batch_with_a_non_finite_loss(ranks: list[Document], folder: Path) -> None:
    kept = sorted((folder / "broken" / "non_finite").iterdir())
    assert [path.name.rpartition("_")[2] for path in kept] == ["rank0.pt", "rank1.pt"]
    pattern = f"{kept[0].name.removesuffix('0.pt')}*.pt"
    assert f"(kept in {kept[0].parent / pattern}); lower" in ranks[0]["broken"]
    for path in kept:
        for info in torch.load(path, weights_only=True)["infos"]:
            assert info["file_name"] in ranks[0]["broken"]


def test_parameters_are_bit_equal_on_both_ranks(ranks: list[Document]) -> None:
    one, other = (rank["trained"] for rank in ranks)
    assert len(one) > 0
    assert differences(one, other) == []


def test_all_ranks_evaluate_the_same_weights_and_buffers(ranks: list[Document]) -> None:
    one, other = (rank["evaluated"][0] for rank in ranks)
    assert any(name.endswith("running_mean") for name in one)
    assert differences(one, other) == []


def test_ranks_listen_only_on_the_loopback_interface(ranks: list[Document]) -> None:
    assert [rank["listening"] for rank in ranks] == [["127.0.0.1"], ["127.0.0.1"]]


def test_cpu_cores_are_divided_among_the_ranks(ranks: list[Document]) -> None:
    assert [rank["num_threads"] for rank in ranks] == [max(1, num_cores() // 2)] * 2


@pytest.mark.parametrize(("fault", "message"), [("broken", "the loss "), ("broken scores", "task ")])
def test_numerical_error_ends_both_ranks_with_the_same_message(fault: str, message: str, ranks: list[Document]) -> None:
    one, other = (rank[fault] for rank in ranks)
    assert one == other
    assert one.startswith(f"{NumericsError.__name__}: {message}")
