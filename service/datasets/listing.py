"""The digest of a folder below a data root, which names its version: the names, sizes and times of all its files."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from service.datasets.errors import FolderInvalid


@dataclass(frozen=True)
class FolderListing:
    """The files of a folder.

    Attributes:
        digest: SHA-256 over names, sizes and times of modification.
    """

    digest: str
    num_files: int


def list_folder(folder: Path, max_files: int) -> FolderListing:
    """Return the listing of a folder; links are listed, and not followed.

    Raises:
        FolderInvalid: the folder has more files than allowed, or cannot be listed.
    """
    digest, num_files = hashlib.sha256(), 0
    try:
        for parent, folders, names in os.walk(folder, onerror=_raise):
            folders.sort()
            for name in sorted(names):
                path = Path(parent, name)
                facts = path.lstat()
                line = f"{path.relative_to(folder)}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
                num_files += 1
                if num_files > max_files:
                    raise FolderInvalid(
                        f"has more than {max_files} files; divide it, or let the operator raise "
                        "PYRAMIDION_DATASET_MAX_FILES"
                    )
    except OSError as error:
        raise FolderInvalid(f"cannot be listed ({error.strerror}); change its permissions") from error
    return FolderListing(digest.hexdigest(), num_files)


def _raise(error: OSError) -> None:
    raise error
