"""Files of run folders that clients may read: no hidden files, and no links that lead out of the folder."""

import base64
import mimetypes
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from service.api.file_digests import file_state
from service.api.views import moment
from service.rest.schemas import Artifact

MEDIA_TYPES = {".csv": "text/csv", ".jsonl": "application/jsonl", ".yaml": "application/yaml", ".txt": "text/plain"}
UNSAFE_TYPES = frozenset({"text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml"})
"""Media types in which a browser would run scripts."""


def list_artifacts(run_dir: Path) -> list[Artifact]:
    """Return all files of a run folder, sorted by path; an empty list if the folder does not exist."""
    found = []
    for path in _files(run_dir):
        if (state := file_state(path)) is not None:
            name, modified_at = shown_name(path.relative_to(run_dir).as_posix()), moment(state.modified_at)
            found.append(Artifact(path=name, size_bytes=state.size, sha256=state.sha256.hex(), modified_at=modified_at))
    return sorted(found, key=lambda artifact: artifact.path)


def find_artifact(run_dir: Path, name: str) -> Path | None:
    """Return the path of a file of a run folder; None if it does not exist or clients may not read it."""
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or PurePosixPath(name).is_absolute() or not all(map(_is_shown, parts)):
        return None
    try:
        path = (run_dir / name).resolve()
        if path.is_relative_to(run_dir.resolve()) and path.is_file():
            return path
        same = (path for path in _files(run_dir) if shown_name(path.relative_to(run_dir).as_posix()) == name)
        return next(same, None) if "\\x" in name else None
    except (OSError, RuntimeError):
        return None


def shown_name(name: str) -> str:
    r"""Return a name in which bytes that are not UTF-8 are escapes such as `\xff`, since JSON cannot contain them."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def content_disposition(path: Path) -> str:
    """Return the header that makes browsers store a file under its name."""
    name = shown_name(path.name)
    quoted = quote(name)
    return f'attachment; filename="{name}"' if quoted == name else f"attachment; filename*=utf-8''{quoted}"


def repr_digest(digest: bytes) -> str:
    """Return the value of the header `Repr-Digest` (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def media_type(path: Path) -> str:
    """Return the media type of a file by its name, but never a type in which a browser would run scripts."""
    known = MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return "application/octet-stream" if known in UNSAFE_TYPES else known


def _files(run_dir: Path) -> Iterator[Path]:
    inside = run_dir.resolve()
    for folder, folders, names in os.walk(run_dir):
        folders[:] = [name for name in folders if _is_shown(name)]
        for name in filter(_is_shown, names):
            path = Path(folder, name)
            try:
                if path.resolve().is_relative_to(inside) and path.is_file():
                    yield path
            except (OSError, RuntimeError):
                continue


def _is_shown(name: str) -> bool:
    return not name.startswith(".")
