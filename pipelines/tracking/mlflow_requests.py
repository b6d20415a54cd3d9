"""Entries of the journal as requests to MLflow. Torch-free; MLflow is imported with the first request."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.run_folder.tracking_files import ArtifactEntry, BatchEntry, DatasetEntry, JournalEntry, StatusEntry

if TYPE_CHECKING:
    from mlflow import MlflowClient


def send_entries(client: "MlflowClient", run_id: str, run_dir: Path, entries: Sequence[JournalEntry]) -> None:
    """Send one group of `pipelines.tracking.journal.grouped`; sending it twice has the effect of sending it once.

    Raises:
        MlflowException: MLflow fails or rejects an entry.
        FileNotFoundError: an artifact is missing.
    """
    from mlflow.entities import Metric, Param, RunTag

    first = entries[0]
    if isinstance(first, StatusEntry):
        if first.status == "RUNNING":
            client.update_run(run_id, status="RUNNING")
        else:
            client.set_terminated(run_id, first.status, first.time_ms)
    elif isinstance(first, DatasetEntry):
        _send_dataset(client, run_id, first)
    elif isinstance(first, ArtifactEntry):
        path = Path(os.path.normpath(run_dir / first.path))
        if path.is_dir():
            client.log_artifacts(run_id, str(path), first.folder or path.name)
        else:
            client.log_artifact(run_id, str(path), first.folder or None)
    else:
        batches = [entry for entry in entries if isinstance(entry, BatchEntry)]
        client.log_batch(
            run_id,
            metrics=[Metric(*point) for batch in batches for point in batch.metrics],
            params=[Param(key, text) for batch in batches for key, text in batch.params.items()],
            tags=[RunTag(key, text) for batch in batches for key, text in batch.tags.items()],
        )


def _send_dataset(client: "MlflowClient", run_id: str, entry: DatasetEntry) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    source = json.dumps({"uri": entry.source})
    dataset = Dataset(entry.name, entry.digest, "local", source, profile=entry.profile)
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, entry.context)])])
