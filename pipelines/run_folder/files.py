"""Files that are read and written whole."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a temporary file beside `path`, sync it and rename it, so that readers see the old file or the new one.

    Missing folders are created. Lone surrogates, which UTF-8 cannot express, are written as escapes. A link, a device
    or a pipe, such as /dev/stdout, is not replaced, but written.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    if path.is_symlink() or path.is_char_device() or path.is_fifo():
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named_in_errors(path):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    """Let OSError name `path`: that of a full disk names no file, and others name the temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
