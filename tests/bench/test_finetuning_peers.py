"""The comparison with other trainers gives each the same time and the same evaluation."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bench import finetuning_peers, torchvision_peer, ultralytics_peer
from tests.bench.runs import Process, run_process

DOCUMENT: dict[str, Any] = {
    "categories": [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}],
    "images": [{"id": 3, "file_name": "x/one.png", "height": 40, "width": 60}, {"id": 4, "file_name": "0002.png"}],
    "annotations": [{"id": 1, "image_id": 3, "category_id": 9, "bbox": [5, 6, 20, 10], "area": 200, "iscrowd": 0}],
}
PERFECT = {"image_id": 3, "category_id": 9, "bbox": [5.0, 6.0, 20.0, 10.0], "score": 0.5}


@pytest.fixture
def setup(tmp_path: Path) -> finetuning_peers.Setup:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_test.json").write_text(json.dumps(DOCUMENT))
    return finetuning_peers.Setup(tmp_path, tmp_path, "90s", threads=1, clock="wall", machine="a machine")


def test_scores_are_those_of_pycocotools_and_zero_without_detections(setup: finetuning_peers.Setup) -> None:
    wrong = PERFECT | {"category_id": 7, "score": 0.9}
    assert finetuning_peers.scores(setup.test, [PERFECT, wrong]) == pytest.approx({"AP": 1.0, "AP50": 1.0})
    assert finetuning_peers.scores(setup.test, []) == {"AP": 0.0, "AP50": 0.0}


def test_finished_run_is_a_row_and_is_not_repeated(
    setup: finetuning_peers.Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def side(setup: finetuning_peers.Setup, folder: Path, seed: int) -> finetuning_peers.Finished:
        started.append(seed)
        counts = {"batches": 2, "images": 8}
        return finetuning_peers.Finished([PERFECT], counts, [Process(0, 60.0, 20.0, 5.0), Process(0, 30.0, 10.0, 9.0)])

    monkeypatch.setitem(finetuning_peers.SIDES, "a: side", side)
    wanted = finetuning_peers.identity(setup, "a: side", 1)
    first, second = (finetuning_peers.execute(setup, tmp_path / "rows.jsonl", wanted) for _ in range(2))
    assert first == second
    assert started == [1]
    other = finetuning_peers.identity(setup, "a: side", 2)
    assert finetuning_peers.execute(setup, tmp_path / "rows.jsonl", other)["seed"] == 2
    assert (first["AP"], first["images"]) == (1.0, 8)
    assert (first["wall_s"], first["cpu_s"], first["peak_mib"]) == (90.0, 30.0, 9)


def test_batches_of_the_own_run_are_its_last_step() -> None:
    events = [json.dumps({"step": 13}), json.dumps({"step": 39}), json.dumps({"kind": "stage", "step": 0})]
    document = {"data": {"sources": {"cells": {"batch_size": 4}}}}
    assert finetuning_peers.own_counts(events, document) == {"batches": 39, "images": 156}


def test_process_time_includes_the_children_of_a_command(tmp_path: Path) -> None:
    child = "sum(range(3_000_000))"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); sys.exit(3)"
    alone = run_process([sys.executable, "-c", "pass"], tmp_path / "log")
    process = run_process([sys.executable, "-c", parent], tmp_path / "log")
    assert (alone.exit_code, process.exit_code) == (0, 3)
    assert process.cpu_s > alone.cpu_s
    with pytest.raises(SystemExit, match=r"exited with 3, see .*log"):
        ultralytics_peer.require(process, tmp_path / "log")


LOG = (
    "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size\n"
    "\r\x1b[K      1/100         0G      3.231      3.918      4.137        212        320: 30% ━━── 4/13 2.1s/it 8.1s"
    "\r\x1b[K      1/100         0G      3.102      3.871      4.089         98        320: 100% ━━━━ 13/13 26s\n"
    "\r\x1b[K       2/40         0G      2.902      3.771      4.002        301        320: 15% ━─── 2/13 2.0s/it 3.9s"
    "\r\x1b[K                 Class     Images  Instances      Box(P          R      mAP50 mAP50-95): 16% ━─ 1/6"
)


def test_batches_of_ultralytics_are_read_from_its_log() -> None:
    assert ultralytics_peer.trained_batches(LOG) == {1: (13, 13), 2: (2, 13)}
    # The last batch of the first epoch has 13 images.
    assert ultralytics_peer.counts(LOG, 205) == {"batches": 15, "images": 205 + 32}


def test_predictions_of_ultralytics_name_images_by_stem() -> None:
    box = {"bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.25}
    predictions = [{"image_id": "one", "category_id": 2, **box}, {"image_id": 2, "category_id": 1, **box}]
    assert ultralytics_peer.to_coco(DOCUMENT, predictions) == [
        {"image_id": 3, "category_id": 9, **box},
        {"image_id": 4, "category_id": 7, **box},
    ]


def test_learning_rate_of_the_reference_warms_up_and_drops_twice() -> None:
    shares = [torchvision_peer.rate_factor(progress) for progress in (0.0, 0.05, 0.1, 0.6, 0.7, 0.9)]
    assert shares == pytest.approx([0.01, 0.5, 1.0, 1.0, 0.1, 0.01])


def test_flip_mirrors_the_boxes_and_epochs_show_each_image_once() -> None:
    image = torch.zeros(3, 4, 10, dtype=torch.uint8)
    image[:, 1:3, 1:4] = 255
    target = {"boxes": torch.tensor([[1.0, 1.0, 4.0, 3.0]]), "labels": torch.tensor([2])}
    mirrored, moved = torchvision_peer.flipped(image, target, is_due=True)
    (x1, y1, x2, y2) = moved["boxes"][0].int().tolist()
    assert bool((mirrored[:, y1:y2, x1:x2] == 255).all())
    assert int(mirrored.sum()) == int(mirrored[:, y1:y2, x1:x2].sum())
    images = [torch.full((3, 1, 1), number, dtype=torch.uint8) for number in range(6)]
    batches = torchvision_peer.Images(images, [target] * 6).batches(seed=0)
    seen = [round(255 * float(image[0, 0, 0])) for _ in range(3) for image in next(batches)[0]]
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))


def test_reference_trains_a_detector_with_frozen_norms_and_a_fixed_stem() -> None:
    torch.manual_seed(0)
    model = torchvision_peer.build_detector(2, (64, 96)).train()
    body: Any = model.backbone.body  # type: ignore[union-attr]
    target = {"boxes": torch.tensor([[5.0, 5.0, 40.0, 30.0]]), "labels": torch.tensor([2])}
    sum(model([torch.rand(3, 64, 96)], [target]).values()).backward()
    trained = {name for name, child in body.named_children() if any(p.grad is not None for p in child.parameters())}
    assert trained == {"stage2", "stage3", "stage4", "stage5", "stage6"}
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in body.modules())


def test_detections_of_torchvision_become_coco_results() -> None:
    found = {"boxes": torch.tensor([[1.0, 2.0, 5.0, 9.0]]), "labels": torch.tensor([2]), "scores": torch.ones(1)}
    empty = {name: value[:0] for name, value in found.items()}
    (row,) = torchvision_peer.to_coco(DOCUMENT, [found, empty])
    assert row == {"image_id": 3, "category_id": 9, "bbox": [1.0, 2.0, 4.0, 7.0], "score": 1.0}


def test_clocks_of_a_program_show_its_processor_time(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time, neighbor\n"
        "clocks = [time.time, time.monotonic, time.perf_counter]\n"
        "before, used = [clock() for clock in clocks], time.process_time()\n"
        "time.sleep(0.5)\n"
        "sum(range(2_000_000))\n"
        "after, used = [clock() for clock in clocks], time.process_time() - used\n"
        "assert sys.argv[1:] == ['a', '-m'], sys.argv\n"
        "assert all(0 < new - old < used + 0.4 for old, new in zip(before, after)), (before, after, used)\n"
    )
    (tmp_path / "neighbor.py").touch()
    command = [sys.executable, str(finetuning_peers.CLOCKS)]
    log = tmp_path / "log"
    assert run_process([*command, str(script), "a", "-m"], log).exit_code == 0, log.read_text()
    assert run_process([*command, "-m", "timeit", "-n", "1", "pass"], log).exit_code == 0, log.read_text()
