"""Training batches of one image, on which BatchNorm cannot train where a map is 1x1."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.base.errors import ConfigError
from pipelines.base.records import Category, DatasetIndex, ImageRecord
from pipelines.data.loading.datamodule import JobData
from pipelines.model import MultiTaskModel, build_model
from pipelines.run_folder.layout import RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.load import apply_override, validate_document, write_yaml
from pipelines.training.single_images import avoid_single_images, single_value_norms

DOCUMENT: dict[str, Any] = {
    "name": "small-images",
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "model": {
        "backbone": {"name": "timm:resnet10t", "weights": "none"},
        "neck": {"channels": 16},
        "tasks": {"kind": {"head": "multiclass"}},
    },
    "data": {
        "root": "set",
        "image_size": 32,
        "num_workers": 0,
        "sources": {
            "s": {
                "images": "{split}",
                "labels": [{"format": "csv", "path": "{split}.csv", "column": "kind", "tasks": ["kind"]}],
                "batch_size": 2,
            }
        },
    },
    "tracking": None,
}
POOLED = {"model.backbone.name": "timm:skresnet18", "data.image_size": 64}
"""Selective kernels: BatchNorm on the mean over the whole image."""
IN_NECK = {"model.neck.norm": "bn", "model.transfer": "freeze"}


def job_of(**changes: Any) -> JobSpec:
    document = DOCUMENT
    for field, value in changes.items():
        document = apply_override(document, field, value)
    return validate_document(document)


def built(job: JobSpec, num_train: int, size_hw: tuple[int, int] = (40, 40)) -> tuple[MultiTaskModel, JobData]:
    train = [
        ImageRecord(n, "s", "train", f"{n}.png", Path(f"{n}.png"), *size_hw, labels={"kind": ["a"]})
        for n in range(num_train)
    ]
    index = DatasetIndex({"train": train}, {"kind": [Category(1, "a"), Category(2, "b")]})
    return build_model(job.model, index.categories), JobData(job.data, job.model.tasks, index, 0)


def batch_sizes(job: JobSpec, num_train: int, num_processes: int = 1, **options: Any) -> list[int]:
    """Return the batch sizes of an epoch after the check."""
    model, data = built(job, num_train, **options)
    avoid_single_images(model, job, data, num_processes)
    return [len(batch) for batch in data.train_sampler(num_processes).batches(0)]


@pytest.mark.parametrize("changes", [{}, POOLED, IN_NECK], ids=["c5", "pooled", "neck"])
def test_last_single_image_joins_the_batch_before_it(changes: dict[str, Any]) -> None:
    assert batch_sizes(job_of(**changes), 5) == [2, 3]
    assert batch_sizes(job_of(**changes), 4) == [2, 2]
    assert batch_sizes(job_of(**changes), 5, num_processes=2) == [3]


@pytest.mark.parametrize(
    ("changes", "size_hw"),
    [
        ({"data.image_size": 64}, (40, 40)),
        ({"data.image_size": 64}, (64, 20)),
        ({"model.transfer": "freeze"}, (40, 40)),
        ({"model.backbone.name": "timm:convnext_atto"}, (40, 40)),
    ],
    ids=["larger", "two cells", "frozen", "LayerNorm"],
)
def test_networks_that_train_on_single_images_keep_their_batches(
    changes: dict[str, Any], size_hw: tuple[int, int]
) -> None:
    assert batch_sizes(job_of(**changes), 5, size_hw=size_hw) == [2, 2, 1]


def test_smallest_size_of_several_scales_decides() -> None:
    assert batch_sizes(job_of(**{"data.image_size": 64, "data.multi_scale": [32, 96]}), 5) == [2, 3]


def test_concatenated_sources_join_their_last_image_too() -> None:
    assert batch_sizes(job_of(**{"data.mix": "concat"}), 5) == [2, 3]


@pytest.mark.parametrize(
    ("changes", "num_train", "num_processes", "message"),
    [
        ({"data.sources.s.batch_size": 1}, 5, 1, r"data\.sources\.s\.batch_size: got 1, .* a larger data\.image_size"),
        ({"data.sources.s.batch_size": 1} | POOLED, 5, 1, r"64x64 .*; write 2 or more, or choose a network without"),
        ({"data.sources.s.batch_size": 1} | IN_NECK, 5, 1, r"\(neck\..* or choose .*model\.neck\.norm: none"),
        ({}, 1, 1, r"data\.sources\.s: the training split has 1 labeled image\(s\), but .*; add images"),
        ({}, 2, 2, r"2 labeled image\(s\) for 2 processes, .* trainer\.sync_batchnorm: true"),
        ({"data.mix": "concat"}, 1, 1, r"data\.sources: the training split has 1 labeled"),
        (
            {"data.mix": "proportional", "data.sources.s.batch_size": 1, "trainer.accumulate_grad_batches": 4},
            5, 1, "got 1, but BatchNorm",
        ),
    ],
)  # fmt: skip
def test_single_images_that_remain_are_refused(
    changes: dict[str, Any], num_train: int, num_processes: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        batch_sizes(job_of(**changes), num_train, num_processes)


def test_synchronized_norms_see_the_images_of_all_processes() -> None:
    job = job_of(**{"trainer.sync_batchnorm": True})
    assert batch_sizes(job, 2, num_processes=2) == [1]
    with pytest.raises(ConfigError, match="1 labeled image"):
        batch_sizes(job, 1, num_processes=1)


@pytest.mark.parametrize("changes", [{}, POOLED], ids=["c5", "pooled"])
def test_named_norms_are_those_on_which_torch_fails(changes: dict[str, Any]) -> None:
    job = job_of(**changes)
    model, _ = built(job, 1)
    size_hw = (job.data.image_size, job.data.image_size)
    norms = single_value_norms(model, job.model, size_hw)
    assert norms
    assert model.training
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model.features(torch.zeros(1, 3, *size_hw, dtype=torch.uint8))
    for name in norms:
        model.get_submodule(name).eval()
    model.features(torch.zeros(1, 3, *size_hw, dtype=torch.uint8))


def test_check_and_fit_agree(command_line: None, command: Callable[..., int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        (tmp_path / "set" / split).mkdir(parents=True)
        lines = ["file_name,kind"]
        for n in range(count):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / split / f"{split}{n}.png")
            lines.append(f"{split}{n}.png,{'ab'[n % 2]}")
        (tmp_path / "set" / f"{split}.csv").write_text("\n".join(lines))
    (tmp_path / "job.yaml").write_text(write_yaml(DOCUMENT))
    run_dir = RunDir.of(tmp_path / "run")
    options = ("--config", "job.yaml", "--data-root", ".")
    single = (*options, "--data.sources.s.batch_size", "1")
    assert command("check", *options) == 0
    assert command("check", *single) == 78
    assert command("fit", *single, "--run-dir", tmp_path / "refused") == 78
    assert command("fit", *options, "--run-dir", run_dir.path) == 0
    assert run_dir.result.exists()
