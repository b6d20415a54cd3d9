"""Train Ultralytics' YOLO11n from random weights within a wall time: a peer of `recipe:finetune`.

Ultralytics has the license AGPL-3.0. It is installed into a virtual environment of its own below runs/bench and only
called by its command line. This project neither imports nor contains it.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib

from tests.bench.runs import Process, run_process

VERSION = "8.4.190"
MODEL = "yolo11n.yaml"
NUM_EVALUATIONS = 3
"""Evaluations after the end of the training: of the last weights and of the best weights on val, then of test."""
MAX_BATCH = 16
OFFLINE = {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
}
"""No request leaves the machine: nothing listens at the port 9 of the loopback."""

RECORDERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
"""Packages that Ultralytics uses if they are installed."""


def install(environment: Path, log: Path, torch_from: Path | None) -> None:
    """Make the virtual environment unless it exists.

    Args:
        environment: its folder.
        log: output of the installation.
        torch_from: `site-packages` with this project's torch and torchvision, which are then not installed again.
    """
    marker = environment / ".installed"
    if marker.exists():
        return
    require(run_process([sys.executable, "-m", "venv", str(environment)], log), log)
    if torch_from:
        (packages,) = (environment / "lib").glob("python*/site-packages")
        (packages / "torch.pth").write_text(f"{torch_from}\n", "utf-8")
    versions = [f"{name}=={metadata.version(name)}" for name in ("torch", "torchvision")]
    pip = [str(environment / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
    require(run_process([*pip, f"ultralytics=={VERSION}", *versions], log), log)
    # A font is at hand, so that it is not downloaded.
    fonts = environment / "Ultralytics"
    fonts.mkdir(exist_ok=True)
    shutil.copy(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", fonts / "Arial.ttf")
    # The environment can contain more packages by `torch_from`: without a setting, some of them would record the run.
    settings = [f"{name}=False" for name in ("sync", *RECORDERS)]
    yolo = [str(environment / "bin/yolo"), "settings", *settings]
    require(run_process(yolo, log, environment_of(environment)), log)
    marker.touch()


def environment_of(environment: Path) -> dict[str, str]:
    """Return the variables for the commands of a virtual environment."""
    return OFFLINE | {"YOLO_CONFIG_DIR": str(environment)}


def require(process: Process, log: Path) -> Process:
    """Return a process that succeeded; exit with a message for one that failed."""
    if process.exit_code:
        sys.exit(f"bench: a command exited with {process.exit_code}, see {log}; run the same command to repeat it")
    return process


class Yolo:
    """The command line of an environment, with its output in `log`.

    Args:
        command: how it is started.
        environment: the virtual environment.
        data: `data.yaml` of a YOLO data set.
        image_px: side of the square that images are padded to in training.
        log: output of all commands.
    """

    def __init__(self, command: Sequence[str], environment: Path, data: Path, image_px: int, log: Path) -> None:
        self._command = [*command, "detect"]
        self._settings = [
            f"data={data}",
            f"imgsz={image_px}",
            "workers=0",
            "device=cpu",
            "plots=False",
            "exist_ok=True",
        ]
        self._environment = environment_of(environment)
        self.log = log

    def train(self, out: Path, seed: int, limit_s: float) -> Process:
        """Train for a wall time, which excludes the start and the evaluations after it."""
        settings = [f"model={MODEL}", "pretrained=False", f"seed={seed}", "val=False", f"time={limit_s / 3600:.6f}"]
        return self._run("train", *settings, f"project={out}", "name=train")

    def evaluate(self, out: Path, model: str, split: str) -> Process:
        """Evaluate a split, and write `predictions.json` into the folder `split` of `out`, if there are any."""
        return self._run("val", f"model={model}", f"split={split}", "save_json=True", f"project={out}", f"name={split}")

    def _run(self, mode: str, *settings: str) -> Process:
        command = [*self._command, mode, *self._settings, *settings]
        return require(run_process(command, self.log, self._environment), self.log)


def trained_batches(log: str) -> dict[int, tuple[int, int]]:
    """Return the number of batches of each epoch, from 1 on, and that of a whole epoch, from the log of a training."""
    found: dict[int, tuple[int, int]] = {}
    for line in re.split(r"[\r\n]", log):
        if shown := re.match(r"(?:\x1b\[K)?\s*(\d+)/\d+\s+\S+G\s.*?\s(\d+)/(\d+)\s", line):
            epoch, number, whole = map(int, shown.groups())
            found[epoch] = (max(number, found.get(epoch, (0, 0))[0]), whole)
    return found


def counts(log: str, num_images: int) -> dict[str, int]:
    """Return the numbers of batches and images of a training; the last batch of an epoch can be smaller.

    Args:
        log: of the training.
        num_images: of the training split.
    """
    batches = [number for number, _ in trained_batches(log).values()]
    return {"batches": sum(batches), "images": sum(min(MAX_BATCH * number, num_images) for number in batches)}


def to_coco(document: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return COCO results from predictions that name images by their stems, and count classes from 1.

    Args:
        document: the COCO file of the split.
        predictions: written by Ultralytics; numeric stems are numbers.
    """
    ids = {Path(image["file_name"]).stem: image["id"] for image in document["images"]}
    ids |= {str(int(stem)): number for stem, number in ids.items() if stem.isdecimal()}
    categories = [category["id"] for category in document["categories"]]
    return [
        {
            "image_id": ids[str(found["image_id"])],
            "category_id": categories[found["category_id"] - 1],
            "bbox": found["bbox"],
            "score": found["score"],
        }
        for found in predictions
    ]


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Return the predictions in a file; none if Ultralytics did not write it, as it does without detections."""
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else []
    return found
