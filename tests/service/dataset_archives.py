"""Archives of data sets for tests."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def zipped(folder: Path) -> bytes:
    """Return a folder's files as a zip; the same files give the same bytes."""
    return zip_of({path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(folder)})


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """Return a zip with some files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def tarred(folder: Path, mode: str = "w:gz") -> bytes:
    """Return a folder as a tar file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, folder.name)
    return content.getvalue()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
