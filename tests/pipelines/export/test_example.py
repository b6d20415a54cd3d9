"""The programs beside an exported graph answer as the predictor does, whatever the file of the image is."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.export.example import example_text, inference_text
from pipelines.inference.predictor import Predictor
from pipelines.run_folder.exports_layout import VariantDir
from pipelines.runtimes.rows import RUNTIMES
from pipelines.spec.job import JobSpec
from tests.channel_means import write_channel_means

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
COLORS = Image.fromarray(PIXELS)


def write_rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS * np.linspace(0, 1, 80)[None, :, None].round(1).astype(np.uint8)).save(path, exif=exif)


def write_transparent(path: Path) -> None:
    image = COLORS.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path)


FILES: dict[str, Callable[[Path], None]] = {
    "colors.png": COLORS.save,
    "gray.png": lambda path: COLORS.convert("L").save(path),
    "palette.png": lambda path: COLORS.convert("P").save(path, transparency=3),
    "cmyk.jpg": lambda path: COLORS.convert("CMYK").save(path),
    "transparent.png": write_transparent,
    "rotated.png": write_rotated,
    "one pixel.png": lambda path: Image.new("RGB", (1, 1), (255, 0, 51)).save(path),
    "wide.png": lambda path: COLORS.resize((900, 5)).save(path),
}


@pytest.fixture
def folder(scene_job: JobSpec, scene_model: Path, tmp_path: Path) -> VariantDir:
    folder = VariantDir(tmp_path / "export")
    variant = write_channel_means(folder.path, scene_job, model=scene_model)
    folder.example.write_text(example_text(variant))
    folder.inference.write_text(inference_text(variant))
    return folder


def run_example(folder: VariantDir, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["example.py", *arguments])
    monkeypatch.syspath_prepend(folder.path)
    try:
        runpy.run_path(str(folder.example), run_name="__main__")
    finally:
        sys.modules.pop("inference", None)


@pytest.mark.parametrize("name", FILES)
def test_answers_are_those_of_the_predictor(
    name: str,
    folder: VariantDir,
    scene_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = tmp_path / name
    FILES[name](image)
    run_example(folder, [str(image)], monkeypatch)
    (answer,) = Predictor.from_variant(scene_model, folder.path, threads=1).predict([image])
    expected = {row["label"]: row["score"] for row in answer["tasks"]["scene"]["labels"]}
    found = {row["label"]: row["score"] for row in json.loads(capsys.readouterr().out)["scene"]["labels"]}
    assert found == pytest.approx(expected, abs=0.01)


def test_image_of_16_bits_is_refused_with_advice(
    folder: VariantDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep.png: has more than 8 bits per channel; convert it to 8 bits"):
        run_example(folder, [str(tmp_path / "deep.png")], monkeypatch)


def test_example_without_an_image_prints_how_to_use_it(folder: VariantDir, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"python example\.py IMAGE"):
        run_example(folder, [], monkeypatch)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_example_is_short_enough_to_be_read(runtime: str, scene_job: JobSpec, tmp_path: Path) -> None:
    variant = write_channel_means(tmp_path / "export", scene_job).model_copy(update={"runtime": runtime})
    assert len(example_text(variant).splitlines()) <= 30
