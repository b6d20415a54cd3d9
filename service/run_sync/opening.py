"""The storage of a service's run folders."""

import os
import secrets
from pathlib import Path

from pipelines.run_folder.files import write_atomic
from service.settings import Settings
from service.storage.objects import ObjectStore
from service.storage.opening import open_run_storage

_ID_FILE = ".run_storage_id"
"""Names the part of the storage that belongs to a root. A backup does not contain it, so a restored service gets a part
of its own, and neither deletes the objects of the other."""


def run_storage_url(settings: Settings) -> str | None:
    """Return the address of the storage of a root, which no other root uses; None if attempts share the service's disk.

    Raises OSError if the root cannot be written.
    """
    if settings.run_storage is None:
        return None
    return f"{settings.run_storage.rstrip('/')}/{_id_of_root(settings.root)}"


def check_run_storage(settings: Settings) -> None:
    """Raise ConfigError if the address of the storage is invalid, or boto3 is missing; nothing is connected."""
    if settings.run_storage is not None:
        open_run_storage(settings.run_storage, settings.storage_timeout_s)


def run_objects(settings: Settings) -> ObjectStore | None:
    """Open the storage of a root; raises ConfigError if its address is invalid or boto3 is missing, and OSError."""
    url = run_storage_url(settings)
    return None if url is None else open_run_storage(url, settings.storage_timeout_s)


def scratch_root(settings: Settings) -> Path:
    """Return the folder in which attempts work on their nodes, which those of no other root do; raises OSError."""
    if settings.run_scratch is None:
        return settings.root / ".scratch"
    return settings.run_scratch / _id_of_root(settings.root)


def _id_of_root(root: Path) -> str:
    path = root / _ID_FILE
    if not path.exists():
        own = path.with_name(f"{_ID_FILE}.{os.getpid()}")
        write_atomic(own, secrets.token_hex(8))
        try:
            os.link(own, path)
        except FileExistsError:
            pass
        finally:
            own.unlink()
    return path.read_text("utf-8")
