"""The files of registered models in MLflow's artifact store. Torch-free; MLflow is imported when used."""

import json
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.base.errors import ModelFilesUnavailable, RegistryError
from pipelines.run_folder.layout import ExportedModelDir
from pipelines.tracking.mlflow_store import Store, one_line
from pipelines.tracking.pyfunc_folder import ARTIFACT

SCHEMES = frozenset(
    {"", "file", "mlflow-artifacts", "s3", "gs", "wasb", "wasbs", "abfs", "abfss", "hdfs", "viewfs", "dbfs"}
)
"""The sources of files: the storage that the operator has set up, never an address such as `http://`, which
anyone who may create a version can write into it."""


def download_files(store: Store, source: str, folder: Path, label: str) -> Path:
    """Download the exported model of a version into `folder` and return its path, without running its code.

    Args:
        store: of the registry.
        source: where the version says that its files are.
        folder: exists.
        label: of the version, for messages.

    Raises:
        ModelFilesUnavailable: the files are missing, or their address is not fetched.
        RegistryError: the storage does not answer.
    """
    from mlflow.artifacts import download_artifacts

    uri = _checked(source, label)
    try:
        path = Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=store.tracking_uri))
    except Exception as error:  # each kind of storage raises errors of its own
        if _is_missing(store, uri):
            raise _missing(store, label) from error
        raise RegistryError(f"the storage of MLflow at {store.label}: {one_line(error)}") from error
    if not ExportedModelDir(path).description.is_file():
        raise _missing(store, label)
    return path


def read_description(store: Store, source: str, label: str) -> dict[str, Any]:
    """Return `model.json` of a version; arguments and errors as in `download_files`."""
    from mlflow.artifacts import download_artifacts

    uri = _checked(source, label)
    with tempfile.TemporaryDirectory() as folder:
        name = ExportedModelDir(Path(folder)).description.name
        try:
            path = download_artifacts(f"{uri}/{name}", dst_path=folder, tracking_uri=store.tracking_uri)
            described: Any = json.loads(Path(path).read_text("utf-8"))
        except ValueError as error:
            raise ModelFilesUnavailable(f"{name} of {label} is damaged ({error}); register the model again") from error
        except Exception as error:  # each kind of storage raises errors of its own
            if _is_missing(store, uri):
                raise _missing(store, label) from error
            raise RegistryError(f"the storage of MLflow at {store.label}: {one_line(error)}") from error
    if not isinstance(described, dict):
        raise ModelFilesUnavailable(f"{name} of {label} is damaged; register the model again")
    return described


def local_folder(source: str) -> Path | None:
    """Return the folder of the exported model if the files of a version are on a disk of this host."""
    parts = urlsplit(source)
    if parts.scheme.lower() not in ("", "file"):
        return None
    folder = Path(unquote(parts.path) if parts.scheme else source) / "artifacts" / ARTIFACT
    return folder if ExportedModelDir(folder).description.is_file() else None


def made_by_mlflow(source: str) -> str | None:
    """Return the id of the model for which MLflow has made the folder `source`; None for other addresses."""
    parts = urlsplit(source)
    *_, kind, model_id, name = ("", "", "", *PurePosixPath(parts.path).parts)
    is_usual = (kind, name) == ("models", "artifacts") and model_id.startswith("m-")
    return model_id if is_usual and parts.scheme.lower() in SCHEMES else None


def delete_files(store: Store, source: str) -> None:
    """Delete a folder that MLflow has made for a model, see `made_by_mlflow`."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    files: Any = get_artifact_repository(source, tracking_uri=store.tracking_uri)
    files.delete_artifacts()


def _checked(source: str, label: str) -> str:
    """Return the address of the exported model below `source`."""
    scheme = urlsplit(source).scheme.lower()
    if scheme not in SCHEMES:
        raise ModelFilesUnavailable(
            f"the files of {label} are at an address that is not fetched ({scheme}:); register the model again"
        )
    return f"{source.rstrip('/')}/artifacts/{ARTIFACT}"


def _is_missing(store: Store, uri: str) -> bool:
    """Return whether the storage answers and has nothing at an address."""
    from mlflow.artifacts import list_artifacts

    try:
        return not list_artifacts(artifact_uri=uri, tracking_uri=store.tracking_uri)
    except Exception:  # as above: it does not answer
        return False


def _missing(store: Store, label: str) -> ModelFilesUnavailable:
    return ModelFilesUnavailable(
        f"{label} is registered in MLflow at {store.label}, but its files are missing: restore them or delete it"
    )
