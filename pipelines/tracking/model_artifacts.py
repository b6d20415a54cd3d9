"""The files of registered models in MLflow's artifact store. Torch-free; MLflow is imported when used."""

import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pipelines.base.errors import ModelFilesUnavailable, RegistryError
from pipelines.run_folder.exports_layout import UNFINISHED
from pipelines.run_folder.layout import ExportedModelDir
from pipelines.tracking.mlflow_store import Store, one_line
from pipelines.tracking.pyfunc_folder import ARTIFACT

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEMES = frozenset(
    {"", "file", "mlflow-artifacts", "s3", "gs", "wasb", "wasbs", "abfs", "abfss", "hdfs", "viewfs", "dbfs"}
)
"""The sources of files: the storage that the operator has set up, never an address such as `http://`, which
anyone who may create a version can write into it."""


def download_files(store: Store, source: str, folder: Path, label: str, inside: str = ARTIFACT) -> Path:
    """Download the files of a version into `folder` and return their path, without running any code in them.

    Args:
        store: of the registry.
        source: where the version says that its files are.
        folder: exists.
        label: of the version, for messages.
        inside: the folder among the artifacts to download; by default the exported model.

    Raises:
        ModelFilesUnavailable: the files are missing, or their address is not fetched.
        RegistryError: the storage does not answer.
    """
    from mlflow.artifacts import download_artifacts

    uri = _checked(source, label, inside)
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


def add_files(store: Store, client: "MlflowClient", source: str, export: Path, inside: str, label: str) -> None:
    """Add an export to another runtime to the files of a version; those of an incomplete upload are removed.

    Args:
        store: of the registry.
        client: of the registry.
        source: where the version says that its files are.
        export: the folder of the export.
        inside: the new folder among the artifacts.
        label: of the version, for messages.

    Raises:
        ModelFilesUnavailable: MLflow has not made the folder of the version for this version.
    """
    model_id = made_by_mlflow(source)
    if model_id is None or client.get_logged_model(model_id).artifact_location != source:
        raise ModelFilesUnavailable(f"{label} has files that MLflow does not manage; register the model again")
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=export.parent) as scratch:
        # MLflow names what it uploads by its place in the folder; a link to each file takes no space.
        shutil.copytree(export, Path(scratch) / "artifacts" / inside, copy_function=os.link)
        try:
            client.log_model_artifacts(model_id, scratch)
        except BaseException:
            with suppress(Exception):  # the storage may not answer
                delete_files(store, source, f"artifacts/{inside}")
            raise


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


def delete_files(store: Store, source: str, inside: str | None = None) -> None:
    """Delete a folder that MLflow has made for a model, see `made_by_mlflow`, or only a folder inside it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    files: Any = get_artifact_repository(source, tracking_uri=store.tracking_uri)
    files.delete_artifacts(inside)


def _checked(source: str, label: str, inside: str = ARTIFACT) -> str:
    """Return the address of the exported model, or of another folder, below `source`."""
    scheme = urlsplit(source).scheme.lower()
    if scheme not in SCHEMES:
        raise ModelFilesUnavailable(
            f"the files of {label} are at an address that is not fetched ({scheme}:); register the model again"
        )
    return f"{source.rstrip('/')}/artifacts/{inside}"


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
