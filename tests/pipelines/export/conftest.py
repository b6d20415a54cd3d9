"""A model with random weights and its data, and one export of it that all tests share: exports take seconds."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.data.dataset.index import build_index
from pipelines.data.loading.datamodule import JobData
from pipelines.export.variants import ExportSource, export_variant
from pipelines.inference.export import export_model, load_exported
from pipelines.model import build_model
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.layout import ExportedModelDir
from pipelines.spec.export_settings import ExportSettings
from pipelines.spec.job import JobSpec
from pipelines.spec.load import validate_document


@pytest.fixture(scope="session")
def export_job(small: dict[str, Any]) -> JobSpec:
    """Return a document of tasks whose networks export in seconds."""
    document = copy.deepcopy(small)
    document["model"]["tasks"] = {
        "shapes": {**document["model"]["tasks"]["shapes"], "score_threshold": 0.01},
        "scene": document["model"]["tasks"]["scene"],
    }
    document["data"]["sources"]["shapes"]["labels"][0]["tasks"] = ["shapes"]
    return validate_document(document)


@pytest.fixture(scope="session")
def make_source(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[JobSpec], ExportSource]:
    """Return a model with random weights that are spread so that its detections have different scores."""

    def make(job: JobSpec) -> ExportSource:
        index, report = build_index(job, demo_root)
        torch.manual_seed(0)
        model = build_model(job.model, index.categories).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
        model.temperatures = {"shapes": 1.3, "scene": 0.7}
        folder = tmp_path_factory.mktemp("model")
        thresholds = {"shapes": {category.name: 0.02 for category in index.categories["shapes"]}}
        export_model(model, job, index.categories, folder, thresholds)
        loaded, job, categories = load_exported(folder)
        return ExportSource(
            model=loaded,
            job=job,
            categories=categories,
            best_thresholds=thresholds,
            weights=ExportedModelDir(folder).weights,
            index=index,
            data=JobData(job.data, job.model.tasks, index),
            fingerprints={str(split): value for split, value in report.fingerprints.items()},
        )

    return make


@pytest.fixture(scope="session")
def source(export_job: JobSpec, make_source: Callable[[JobSpec], ExportSource]) -> ExportSource:
    """Return a model of `export_job`."""
    return make_source(export_job)


@pytest.fixture(scope="session")
def exports(source: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> ExportsDir:
    """Return the folder with one export, for OpenVINO in float32; tests must not change it."""
    exports = ExportsDir.of(tmp_path_factory.mktemp("run"))
    export_variant(source, ExportSettings(to="openvino"), exports)
    return exports
