"""Archives as the client sends them."""

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.printable import printable

UPLOAD_READ_S = 600.0
"""The service stores an archive before it responds."""

Progress = Callable[[int], None]
"""Takes the number of bytes that were sent so far."""


def sent_archive(file: BufferedReader, progress: Progress) -> dict[str, Any]:
    """Return an open archive as the file of a form. Its local name is private and not sent."""
    file.seek(0)
    return {"archive": ("archive", _CountedFile(file, progress))}


@contextmanager
def packed(folder: Path, files: Sequence[Path] | None = None) -> Iterator[Path]:
    """Provide a temporary zip with files of a folder, by default all; equal files give equal archives.

    The files are stored without compression: images are compressed already.
    """
    chosen = sorted(path for path in folder.rglob("*") if path.is_file()) if files is None else files
    with tempfile.TemporaryDirectory(prefix="pyramidion-upload-") as place:
        path = Path(place, "archive.zip")
        with zipfile.ZipFile(path, "w", strict_timestamps=False) as archive:
            for file in chosen:
                with (
                    file.open("rb") as source,
                    archive.open(zipfile.ZipInfo(file.relative_to(folder).as_posix()), "w", force_zip64=True) as target,
                ):
                    while chunk := source.read(1 << 20):
                        target.write(chunk)
        yield path


class _CountedFile:
    """A file that reports how much of it was read."""

    def __init__(self, file: BufferedReader, progress: Progress) -> None:
        self._file, self._progress = file, progress

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._progress(self._file.tell())
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()


@contextmanager
def opened_archive(path: Path) -> Iterator[BufferedReader]:
    """Open an archive; raises ConfigError if it cannot be read."""
    try:
        file = path.open("rb")
    except OSError as error:
        message = f"cannot be read ({error.strerror}); name an archive or a folder"
        raise ConfigError(FieldProblem(printable(str(path)), message)) from error
    with file:
        yield file
