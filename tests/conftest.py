"""What all tests share: one small document, data to train on, and one MLflow store."""

import copy
import gc
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pipelines.base.deferred_scipy import defer_scipy_signal
from pipelines.base.records import Category
from pipelines.base.suggested_commands import set_data_arguments
from pipelines.data.synth.dataset import write_synthetic
from pipelines.run_folder.layout import CACHE_VARIABLE
from pipelines.spec.job import JobSpec
from pipelines.tracking.mlflow_store import connect, find_experiment, find_store
from tests.made_once import made_once

pytest_plugins = ["tests.postgres", "tests.process_end", "tests.ray_cluster", "tests.s3", "tests.slurm"]

# As the commands do that train, before a test imports Lightning.
defer_scipy_signal()

# Collecting the tests imports everything and creates objects that stay; searching them for garbage takes seconds.
gc.disable()

# How long an example takes says more about the machine than about the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what data checks store out of the cache folder of the user who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def no_arguments_of_earlier_commands() -> None:
    """Forget the arguments of commands that another test ran in this process; messages would name them."""
    set_data_arguments([])


LONG = (
    "tests/service/whole/",
    "tests/service/test_previous_version",
    "tests/service/server/",
    "tests/service/api/test_conformance",
    "tests/pipelines/training/test_families",
    "tests/pipelines/run/",
    "tests/test_adding",
)
"""Files of tests that train, or start a whole service, for most of a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files of long tests first, so that no process works through them at the end while the other is idle."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """Start garbage collection, except of everything that exists now."""
    gc.freeze()
    gc.enable()


OF_RANKS = re.compile(
    r"tests/(heads/test_gather|pipelines/training/test_(families|normalizers_of_ranks|two_rank\w*))\.py"
)
"""Files whose tests fork ranks from a process that imports the trainer, which takes 10 CPU seconds."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all files of tests with ranks to one process of pytest-xdist, which starts the parent of ranks once."""
    from xdist.scheduler import LoadFileScheduling

    class RanksTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ranks" if OF_RANKS.match(nodeid) else super()._split_scope(nodeid)

    return RanksTogether(config, log) if config.getoption("dist") == "loadfile" else None


SMALL_DOCUMENT = {
    "name": "small",
    "seed_everything": 3,
    "trainer": {
        "max_epochs": 2, "accelerator": "cpu", "precision": "32-true", "accumulate_grad_batches": 2,
        "gradient_clip_val": 1.0, "log_every_n_steps": 1,
    },
    "model": {
        "backbone": {"name": "resnet14_thin", "weights": "none"},
        "neck": {"channels": 32, "norm": "bn"},
        "tasks": {
            "shapes": {
                "head": "fcos", "levels": ["p3", "p4", "p5"], "num_convs": 1, "range_scale": 4, "max_detections": 20,
            },
            "scene": {"head": "multilabel", "weight": 0.5, "dropout": 0.5},
            "identity": {"head": "embedding", "of": "objects", "dim": 16, "loss": "proxy_anchor", "weight": 0.1},
        },
        "optimizer": {"lr": 2e-3},
        "schedule": {"warmup_steps": 3},
        "ema": {"decay": 0.9},
        "select": {"metric": "val/scene/mAP"},
    },
    "data": {
        "root": "demo",
        "sources": {
            "shapes": {
                "images": "images",
                "labels": [
                    {
                        "format": "coco", "path": "annotations/instances_{split}.json",
                        "tasks": ["shapes", "identity"],
                    },
                    {
                        "format": "csv", "path": "annotations/image_labels.csv", "split_column": "split",
                        "column": "scene", "separator": " ", "tasks": ["scene"],
                    },
                ],
                "batch_size": 4,
            }
        },
        "image_size": 96,
        "augment": {"scale_jitter": [0.8, 1.25]},
        "num_workers": 0,
    },
    # Most of the time of such a short run; `finished` has them.
    "evaluation": {"plots": False},
    "tracking": None,
}  # fmt: skip


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo data: 20 train images in five batches of 4, 6 val and 6 test images; all processes read it."""

    def make(folder: Path) -> None:
        write_synthetic(folder / "demo", num_train=20, num_val=6, num_test=6, image_size=128)

    return made_once(tmp_path_factory, "data", make) / "demo"


@pytest.fixture
def small_document(small: dict[str, Any]) -> dict[str, Any]:
    """A copy of `small`, to be changed."""
    return copy.deepcopy(small)


@pytest.fixture(scope="session")
def small() -> Iterator[dict[str, Any]]:
    """A document of three kinds of tasks over the demo data, trained in seconds; not to be changed."""
    before = copy.deepcopy(SMALL_DOCUMENT)
    yield SMALL_DOCUMENT
    assert before == SMALL_DOCUMENT, "a test has changed the document that all share; take small_document"


def _make_mlflow_store(folder: Path) -> None:
    connect(find_store(folder))


@pytest.fixture(scope="session")
def scene_job(small: dict[str, Any]) -> JobSpec:
    """A document with one task, whose classes are the channels of an image."""
    document = copy.deepcopy(small)
    document["model"]["tasks"] = {"scene": document["model"]["tasks"]["scene"]}
    document["data"]["sources"]["shapes"]["labels"].pop(0)
    return JobSpec.model_validate(document)


@pytest.fixture(scope="session")
def scene_model(scene_job: JobSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model that has not been trained; see `tests.channel_means` for its export to another runtime."""
    from pipelines.inference.export import export_model
    from pipelines.model import build_model
    from tests.channel_means import CLASSES

    categories = {"scene": [Category(number, name) for number, name in enumerate(CLASSES, 1)]}
    folder = tmp_path_factory.mktemp("scene model")
    export_model(build_model(scene_job.model, categories), scene_job, categories, folder)
    return folder


@pytest.fixture(scope="session")
def mlflow_runs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the tests of a process, copied from one with tables, which take seconds. Its path has a space."""
    runs_root = tmp_path_factory.mktemp("runs root")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        template = made_once(tmp_path_factory, "mlflow", _make_mlflow_store)
        store = find_store(runs_root)
    with (
        closing(sqlite3.connect(template / "mlflow.db")) as source,
        closing(sqlite3.connect(runs_root / "mlflow.db")) as own,
    ):
        source.backup(own)
    find_experiment(connect(store), store, "tests")
    return runs_root


@pytest.fixture
def no_mlflow_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without the MLflow of whoever runs the tests, in an empty working directory: MLflow's own defaults fill it."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
