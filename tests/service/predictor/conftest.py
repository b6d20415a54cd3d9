"""A registered model whose export is a tiny graph with known answers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.spec.exported_variant import VariantResult
from pipelines.spec.job import JobSpec
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from tests.channel_means import write_channel_means

AddExport = Callable[..., VariantResult]


@pytest.fixture
def scene(
    register: Callable[[Path, str], ModelVersion], scene_model: Path, request: pytest.FixtureRequest
) -> ModelVersion:
    """A version without exports, of a model of its own."""
    return register(scene_model, f"scene {request.node.nodeid.rpartition(':')[2]}")


@pytest.fixture
def add_export(
    scene: ModelVersion, scene_job: JobSpec, scene_model: Path, service_registry: Registry, tmp_path: Path
) -> AddExport:
    """Add an export to `scene`, see `write_channel_means`, and return its result."""

    def add(
        *reasons: str, runtime_ms: float = 10, is_damaged: bool = False, model: Path = scene_model
    ) -> VariantResult:
        folder = tmp_path / "exports" / f"{runtime_ms}"
        variant = write_channel_means(folder, scene_job, reasons, runtime_ms, model=model)
        if is_damaged:
            (folder / variant.graph).write_bytes(b"no graph")
        version = service_registry.version(scene.name, scene.version)
        assert version is not None
        service_registry.add_export(version, folder, variant.result)
        return variant.result

    return add
