"""A small model, exported, and registered in the store of all tests. Torch is imported when it is needed: most tests of
the service do without."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.data.records import Category
from pipelines.spec.job import JobSpec
from pipelines.spec.model import SelectSpec
from pipelines.tracking.mlflow_store import connect, find_experiment, find_store
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry

SELECT = SelectSpec(metric="val/shapes/AP50")


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    """Return noise of a size as a JPEG file."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="session")
def exported(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two exported models that answer differently."""
    import torch

    from pipelines.inference.export import export_model
    from pipelines.model import build_model

    job = JobSpec.model_validate(small)
    categories = {task: [Category(10 * k + 5, f"{task} {k}") for k in range(3)] for task in job.model.tasks}
    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build_model(job.model, categories)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        folders.append(tmp_path_factory.mktemp("exported"))
        export_model(model, job, categories, folders[-1])
    return folders


@pytest.fixture(scope="session")
def service_registry(mlflow_runs_root: Path) -> Registry:
    """The registry of a service whose root is `mlflow_runs_root`."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Registry(find_store(mlflow_runs_root))


@pytest.fixture(scope="session")
def register(service_registry: Registry) -> Callable[[Path, str], ModelVersion]:
    """Register an exported model as that of a new run."""
    client = connect(service_registry.store)
    experiment = find_experiment(client, service_registry.store, "tests")

    def register(folder: Path, name: str) -> ModelVersion:
        run_id = client.create_run(experiment).info.run_id
        metrics = {"val/shapes/AP50": 0.5}
        return service_registry.register(
            folder, name=name, run_id=run_id, metrics=metrics, select=SELECT, val_fingerprint="data 1"
        )

    return register


@pytest.fixture(scope="module")
def shapes(
    register: Callable[[Path, str], ModelVersion], exported: list[Path], request: pytest.FixtureRequest
) -> list[ModelVersion]:
    """Both exported models as versions of one model, called after the test module."""
    name = request.module.__name__.rpartition(".")[2]
    return [register(folder, name) for folder in exported]
