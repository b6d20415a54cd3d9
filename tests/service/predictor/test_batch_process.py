"""An attempt at a batch prediction whose images come from clients."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipelines.data.dataset.roots import DATA_ROOTS_VARIABLE
from pipelines.run_folder.attempt_files import AttemptFailure
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RunDir
from service.predictor.batch_process import main
from tests.service.decoding.slow_jpeg import slow_jpeg

REASON = "takes more than 1 s to decode, which is the limit (PYRAMIDION_DECODE_TIMEOUT_S)"


@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_hostile_image_is_listed_or_ends_the_job_as_the_document_says(
    on_error: str, exported: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "root/images"
    images.mkdir(parents=True)
    for name in ("a.png", "z.png"):
        Image.new("RGB", (40, 30)).save(images / name)
    (images / "hostile.jpg").write_bytes(slow_jpeg(2000, 2000))
    run_dir = RunDir.of(tmp_path / "run")
    shutil.copytree(exported[0], run_dir.init_from)
    document = {"model": "shapes", "version": 1, "folder": "images", "on_error": on_error}
    run_dir.job_yaml.write_text(json.dumps(document))
    (tmp_path / "attempt").mkdir()
    for name, value in {
        DATA_ROOTS_VARIABLE: images.parent,
        ATTEMPT_DIR_VARIABLE: tmp_path / "attempt",
        "PYRAMIDION_DECODE_TIMEOUT_S": 1,
        "OMP_NUM_THREADS": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    code = main(["--config", str(run_dir.job_yaml), "--run-dir", str(run_dir.path)])
    if on_error == "fail":
        assert code == 78
        failure = AttemptFailure.read(tmp_path / "attempt/failure.json")
        assert failure.message.startswith(f"hostile.jpg: {REASON}")
        assert failure.message.endswith("(on_error: fail)")
        return
    assert code == 0
    with run_dir.images_csv.open(newline="") as file:
        rows = {row["file_name"]: row for row in csv.DictReader(file)}
    assert {name: row["is_predicted"] for name, row in rows.items()} == {
        "a.png": "true", "hostile.jpg": "false", "z.png": "true",
    }  # fmt: skip
    assert rows["hostile.jpg"]["error"].startswith(REASON)
