"""The document that `pyramidion init` writes trains, for data of every format."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.data.drafting.commands import init_document
from pipelines.run_folder.layout import RunDir
from tests.pipelines.data.drafting.exports import FORMATS

SMALL = (
    "--model.backbone.name", "resnet14_thin", "--model.neck.channels", "16", "--trainer.max_epochs", "1",
    "--trainer.accelerator", "cpu", "--data.num_workers", "0", "--data.sources.images.batch_size", "16",
    "--tracking", "null", "--evaluation.plots", "false",
)  # fmt: skip
"""One epoch of one step."""

BY_DEFAULT = ("coco", "roboflow_yolo", "label_studio", "image_folder")


@pytest.mark.parametrize(
    "name", [name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in FORMATS]
)
def test_document_that_init_writes_trains(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., int]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYRAMIDION_DATA_ROOTS", raising=False)
    FORMATS[name][0](tmp_path / "data")
    init_document(Path("data"), Path("job.yaml"), divide=True)
    assert command("fit", "--config", "job.yaml", "--run-dir", "run", *SMALL) == 0
    run_dir = RunDir.of(tmp_path / "run")
    assert run_dir.result.is_file()
    assert not run_dir.plots.exists(), "evaluation.plots is false"
