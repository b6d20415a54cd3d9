"""The contract of archive storage, and its errors.

StorageError
├── StorageUnavailable   the storage does not answer, or refuses its credentials; nothing was stored
├── StorageFull          its disk is full; nothing was stored
├── ArchiveMissing       no archive has this key
└── ArchiveDamaged       the content does not have the digest of its key
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

CHUNK_BYTES = 1 << 20

_KEY = re.compile(r"(?P<sha256>[0-9a-f]{64})/(?P<owner>[0-9a-z]{1,64})")


class StorageError(Exception):
    """Base of all errors of storage."""


class StorageUnavailable(StorageError):
    """The storage does not answer, or refuses its credentials; a retry is safe."""


class StorageFull(StorageError):
    """The disk of the storage is full; nothing was stored."""


class ArchiveMissing(StorageError):
    """No archive has this key."""

    def __init__(self, key: "ArchiveKey") -> None:
        super().__init__(f"the storage has no archive {key}; upload it again")


class ArchiveDamaged(StorageError):
    """The content does not have the digest of its key."""

    def __init__(self, key: "ArchiveKey", found: str) -> None:
        super().__init__(f"the content of archive {key} has the SHA-256 {found}; upload it again")


@dataclass(frozen=True)
class ArchiveKey:
    """The name of an archive: the digest of its content, and the id of the one row that owns it.

    Equal archives of two owners are stored twice, so that deleting one never affects the other.
    """

    sha256: str
    owner: str

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(str(self)):
            raise ValueError(f"got {str(self)!r}; an archive key is a SHA-256 in hex and an id")

    def __str__(self) -> str:
        return f"{self.sha256}/{self.owner}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the key that `text` names; None if it is not a key."""
        found = _KEY.fullmatch(text)
        return None if found is None else cls(found["sha256"], found["owner"])


class ArchiveStorage(ABC):
    """Stores archives by the digest of their content.

    Every method blocks, for as long as the storage's own timeouts allow: call it in a thread. An archive becomes
    visible when it is complete, and only if its content has the digest of its key.
    """

    label: str
    """The place of the archives for messages, without credentials."""

    @abstractmethod
    def put(self, key: ArchiveKey, content: BinaryIO) -> None:
        """Store an archive, which is read once, in chunks; an earlier one with the same key is replaced.

        Raises:
            ArchiveDamaged: the content does not have the digest of the key.
            StorageFull: the disk is full.
            StorageUnavailable: the storage does not answer.
        """

    @abstractmethod
    def read(self, key: ArchiveKey) -> Iterator[bytes]:
        """Yield the content in chunks.

        Raises:
            ArchiveMissing: no archive has this key.
            ArchiveDamaged: after the last chunk, if the content does not have the digest of the key.
            StorageUnavailable: the storage does not answer.
        """

    def local_path(self, key: ArchiveKey) -> Path | None:
        """Return the file of an archive, whose digest is not verified; None if it is not a file of this machine."""
        return None

    @abstractmethod
    def delete(self, key: ArchiveKey) -> None:
        """Delete an archive; a missing one is ignored. Raises StorageUnavailable."""

    @abstractmethod
    def keys(self) -> Iterator[ArchiveKey]:
        """Yield the keys of all complete archives, in any order. Raises StorageUnavailable."""

    @abstractmethod
    def remove_partial(self, older_than_s: float) -> int:
        """Remove what interrupted calls of `put` have left, and return their number. Raises StorageUnavailable.

        Args:
            older_than_s: uploads that were started later may still be in progress, and are kept.
        """


class DigestReader:
    """Reads a stream once, and raises ArchiveDamaged at its end if the content does not have the digest of a key."""

    def __init__(self, key: ArchiveKey, stream: BinaryIO) -> None:
        self._key, self._stream, self._digest = key, stream, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, all that remain for a negative size."""
        chunk = self._stream.read(size)
        self._digest.update(chunk)
        if (size < 0 or (size > 0 and not chunk)) and self._digest.hexdigest() != self._key.sha256:
            raise ArchiveDamaged(self._key, self._digest.hexdigest())
        return chunk

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in chunks."""
        while chunk := self.read(CHUNK_BYTES):
            yield chunk
