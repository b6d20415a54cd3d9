"""Registered models and versions as values. Torch-free, and without MLflow."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.run_folder.schemas import PromotionRecord
from pipelines.tracking.mlflow_names import mlflow_key
from pipelines.tracking.model_archive import ArchiveFacts
from pipelines.tracking.stored_exports import StoredExport, stored_exports

OWNER_TAG = "pyramidion.owner"
TENANT_TAG = "pyramidion.tenant"
"""Tag of a registered model with the tenant that owns its name."""
DEFAULT_TENANT = "local"
"""The owner of models without this tag."""
FINGERPRINT_TAG = "pyramidion.val_fingerprint"
SELECT_TAG = "pyramidion.select"
PROMOTION_TAG = "pyramidion.promotion"
"""Tag of a version with the decision whether it becomes the champion, a `PromotionRecord`."""
SHA256_TAG, SIZE_TAG = "pyramidion.archive_sha256", "pyramidion.archive_bytes"


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model at the time of the request.

    Attributes:
        name: of the model.
        version: its number.
        run_id: the MLflow run that registered it.
        tags: in MLflow.
        created_at: in seconds since 1970.
        aliases: that point to it.
        source: where MLflow keeps its files.
    """

    name: str
    version: int
    run_id: str | None
    tags: Mapping[str, str]
    created_at: float
    aliases: tuple[str, ...] = field(default=())
    source: str = ""

    @property
    def uri(self) -> str:
        """The URI for `mlflow.pyfunc.load_model`."""
        return f"models:/{self.name}/{self.version}"

    @property
    def val_fingerprint(self) -> str | None:
        """Fingerprint of the val data on which the stored metrics were computed."""
        return self.tags.get(FINGERPRINT_TAG)

    @property
    def select(self) -> str | None:
        """Mode and metric that champions are compared by, such as `max val/cells/AP`."""
        return self.tags.get(SELECT_TAG)

    @property
    def promotion(self) -> PromotionRecord | None:
        """The decision whether it becomes the champion; None for versions of older programs."""
        try:
            return PromotionRecord.model_validate_json(self.tags.get(PROMOTION_TAG, ""))
        except ValueError:
            return None

    @property
    def val_metrics(self) -> dict[str, float]:
        """All stored metrics that are defined."""
        found = {key: _number(text) for key, text in sorted(self.tags.items()) if key.startswith("val/")}
        return {key: number for key, number in found.items() if number is not None}

    @property
    def archive(self) -> ArchiveFacts | None:
        """Checksum and size of its archive; None for versions of older programs."""
        sha256, size = self.tags.get(SHA256_TAG), self.tags.get(SIZE_TAG, "")
        is_number = size.isdecimal() and len(size) < 20
        return ArchiveFacts(sha256, int(size)) if sha256 and is_number else None

    @property
    def exports(self) -> dict[str, StoredExport]:
        """Its exports to other runtimes by name, such as `openvino-int8`."""
        return stored_exports(self.tags)

    def metric(self, name: str) -> float | None:
        """Return a stored metric; None if it is undefined or was not stored."""
        return _number(self.tags.get(mlflow_key(name)))


def _number(text: str | None) -> float | None:
    """Return the number of a tag; None for anything else, since anyone may write tags in MLflow."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model: its owner, the versions of its aliases, and its newest version (None: it has no version)."""

    name: str
    aliases: Mapping[str, int]
    latest_version: int | None
    tenant: str = DEFAULT_TENANT


def as_version(row: Any, aliases: Mapping[str, int]) -> ModelVersion:
    """Return a version of MLflow's client as a value; `aliases` are all aliases of the model."""
    number = int(row.version)
    named = tuple(sorted(alias for alias, version in aliases.items() if version == number))
    return ModelVersion(
        row.name,
        number,
        row.run_id,
        dict(row.tags),
        row.creation_timestamp / 1000,
        named,
        row.source or "",
    )


def as_model(row: Any) -> RegisteredModel:
    """Return a registered model of MLflow's client as a value."""
    newest = max((int(version.version) for version in row.latest_versions), default=None)
    aliases = {alias: int(version) for alias, version in row.aliases.items()}
    return RegisteredModel(row.name, aliases, newest, dict(row.tags).get(TENANT_TAG, DEFAULT_TENANT))
