"""Networks of ten families are trained over REST, from random weights to an evaluation.

The loss decreases, the weights of all stages change, and the network finds objects that it did not find untrained.
One family runs in `make test-integration`. The others run in `make test-slow`, where heavy networks get more epochs.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.base import LEVELS
from pipelines.data.dataset.index import build_index
from pipelines.data.loading.datamodule import JobData
from pipelines.data.synth.dataset import STYLES, write_synthetic
from pipelines.inference.export import load_exported
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.job import JobSpec
from pipelines.training.module import MultiTaskModule
from pipelines.training.scoring import Scoring
from pipelines.training.trainer import create_trainer, quiet_lightning

Document = dict[str, Any]
SLOW = (pytest.mark.slow, pytest.mark.timeout(3600))

FAMILIES = [
    pytest.param(("resnet14_thin", 8, 4e-3), marks=pytest.mark.integration, id="resnet14_thin"),
    pytest.param(("mobilenet_v3_small", 12, 5e-3), marks=SLOW, id="mobilenet_v3_small"),
    pytest.param(("regnet_x_200mf", 9, 4e-3), marks=SLOW, id="regnet_x_200mf"),
    pytest.param(("convnext_atto", 24, 4e-3), marks=SLOW, id="convnext_atto"),
    pytest.param(("shufflenet_v2_x0_5", 24, 5e-3), marks=SLOW, id="shufflenet_v2_x0_5"),
    pytest.param(("efficientnet_b0", 24, 4e-3), marks=SLOW, id="efficientnet_b0"),
    pytest.param(("densenet121", 14, 3e-3), marks=SLOW, id="densenet121"),
    pytest.param(("repvgg_a0", 14, 3e-3), marks=SLOW, id="repvgg_a0"),
    pytest.param(("mnasnet", 24, 4e-3), marks=SLOW, id="mnasnet"),
    pytest.param(("vit_tiny", 40, 5e-4), marks=SLOW, id="vit_tiny"),
]
"""Name, epochs and rate."""


def _document(small: Document, name: str, epochs: int, lr: float) -> Document:
    document = copy.deepcopy(small)
    document["trainer"] = {
        "max_epochs": epochs, "check_val_every_n_epoch": epochs, "accelerator": "cpu", "precision": "32-true",
        "gradient_clip_val": 1.0, "log_every_n_steps": 1,
    }  # fmt: skip
    document["model"] |= {
        "backbone": {"name": name, "weights": "none"},
        "optimizer": {"lr": lr},
        "schedule": {"warmup_steps": 20},
        "ema": {"decay": 0.97},
        "select": {"metric": "val/shapes/AP50"},
    }
    document["model"]["tasks"]["shapes"]["center_sampling_radius"] = 0.75
    document["model"]["tasks"]["scene"]["dropout"] = 0.0
    document["data"] |= {"cache": "ram", "augment": {"hflip": 0.5, "vflip": 0.5, "scale_jitter": [0.9, 1.1]}}
    document["data"]["sources"]["shapes"]["batch_size"] = 4
    # One class of boxes, because six classes would need more training than finding the boxes.
    boxes = document["data"]["sources"]["shapes"]["labels"][0]
    boxes["classes"] = dict.fromkeys(STYLES["shapes"].categories, "object")
    return document


@pytest.fixture(scope="module")
def images_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 images of 128 pixels to train on."""
    root = tmp_path_factory.mktemp("families") / "demo"
    write_synthetic(root, num_train=128, num_val=16, num_test=64, image_size=128)
    return root


@pytest.fixture(scope="module")
def service(start_service: Callable[[Path, int], Any], images_root: Path) -> Any:
    """A running service with one slot."""
    return start_service(images_root.parent, 1)


@dataclass(frozen=True)
class Finished:
    """The results of a job, and its network before training."""

    document: Document
    folder: Path
    results: dict[str, Any]
    model: MultiTaskModel
    initial: MultiTaskModel


@pytest.fixture(scope="module", params=FAMILIES)
def finished(request: pytest.FixtureRequest, service: Any, small: Document) -> Finished:
    document = _document(small, *request.param)
    job = service.submit(document)
    assert service.wait(job, 3500)["status"] == "succeeded", service.describe(job)
    folder = service.root / "jobs" / job
    model, spec, categories = load_exported(folder / "model")
    torch.manual_seed(spec.seed_everything)
    initial = build_model(spec.model, categories)
    return Finished(document, folder, service.results(job), model, initial)


def _mean_losses(folder: Path, document: Document) -> list[float]:
    """Return the weighted losses of each epoch as the job recorded them, averaged over its batches."""
    weights = {task: spec.get("weight", 1.0) for task, spec in document["model"]["tasks"].items()}
    totals: dict[int, list[float]] = {}
    for line in (folder / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "progress":
            losses = event["data"]["losses"].items()
            total = sum(weights[name.split("/")[1]] * value for name, value in losses)
            totals.setdefault(event["epoch"], []).append(total)
    return [sum(of_epoch) / len(of_epoch) for _, of_epoch in sorted(totals.items())]


def _compared(model: MultiTaskModel, initial: MultiTaskModel) -> dict[str, tuple[float, float]]:
    """Return, by stage, the relative change of its weights and their cosine similarity with the initial ones.

    The similarity would be near 0 if the initial weights were drawn differently.
    """
    before = dict(initial.backbone.named_parameters())
    now = {name: weight for name, weight in model.backbone.named_parameters() if weight.ndim > 1}
    compared: dict[str, tuple[float, float]] = {}
    for level in LEVELS:
        names = [name for name in now if model.backbone.stages[name] == level]
        old, new = (torch.cat([weights[name].detach().flatten() for name in names]) for weights in (before, now))
        compared[level] = float((new - old).norm() / old.norm()), float(torch.cosine_similarity(old, new, dim=0))
    return compared


def _untrained_ap50(finished: Finished, root: Path) -> float:
    """Return the AP50 of the initial network, computed as the job computes that of the trained one."""
    job = JobSpec.model_validate(finished.document)
    index, _ = build_index(job, root)
    scoring = Scoring(job.model, index)
    module = MultiTaskModule(job.model, finished.initial, job.seed_everything)
    quiet_lightning()
    data = JobData(job.data, job.model.tasks, index, job.seed_everything)
    create_trainer(job.trainer, [scoring]).test(module, datamodule=data, verbose=False)
    assert scoring.scores is not None
    return scoring.scores.summary["test/shapes/AP50"] or 0.0


def test_loss_decreases_every_stage_changes_and_objects_are_found(finished: Finished, images_root: Path) -> None:
    losses = _mean_losses(finished.folder, finished.document)
    assert len(losses) == finished.document["trainer"]["max_epochs"]
    moved = _compared(finished.model, finished.initial)
    found, untrained = finished.results["summary"]["test/shapes/AP50"], _untrained_ap50(finished, images_root)
    report = {"losses": losses, "moved": moved, "AP50": found, "untrained": untrained}
    assert losses[-1] < 0.7 * losses[0], report
    assert all(share > 0.01 and cosine > 0.1 for share, cosine in moved.values()), report
    assert found >= max(0.1, 10 * untrained), report
