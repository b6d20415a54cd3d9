"""Objects in storage under keys that their writers choose: the contract, and a bucket of S3 that keeps it."""

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from service.storage.base import CHUNK_BYTES, StorageError
from service.storage.s3_bucket import S3Bucket

_DELETED_AT_ONCE = 1000
"""Maximum number of keys in one request of S3."""


class ObjectMissing(StorageError):
    """No object has this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the storage has no object {key}")


class ObjectStore(ABC):
    """Stores objects, each of which becomes visible when it is complete.

    Every method blocks, for as long as the storage's own timeouts allow: call it in a thread.
    """

    label: str
    """The place of the objects for messages, without credentials."""

    @abstractmethod
    def put(self, key: str, content: BinaryIO) -> None:
        """Store an object, whose content is read once; an earlier one is replaced. Raises StorageUnavailable."""

    @abstractmethod
    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Yield the content from a byte on, in chunks.

        Args:
            key: of the object.
            start: smaller than the size of the object, or 0.

        Raises:
            ObjectMissing: no object has this key.
            StorageUnavailable: the storage does not answer.
        """

    @abstractmethod
    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield the keys that start with a prefix and follow `after`, in their order. Raises StorageUnavailable."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored. Raises StorageUnavailable."""


class S3Objects(ObjectStore):
    """Stores the object KEY as PREFIX/KEY in a bucket."""

    def __init__(self, bucket: S3Bucket) -> None:
        self.label = bucket.label
        self._bucket, self._client = bucket, bucket.client

    def put(self, key: str, content: BinaryIO) -> None:
        with self._bucket.translated():
            self._client.upload_fileobj(content, self._bucket.name, self._name(key), Config=self._bucket.transfer)

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        part = {"Range": f"bytes={start}-"} if start else {}
        with self._bucket.translated(ObjectMissing(key)):
            body = self._client.get_object(Bucket=self._bucket.name, Key=self._name(key), **part)["Body"]
            with contextlib.closing(body):
                yield from body.iter_chunks(CHUNK_BYTES)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        place = {"Prefix": self._name(prefix), **({"StartAfter": self._name(after)} if after else {})}
        with self._bucket.translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket.name, **place)
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self._bucket.prefix)

    def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        with self._bucket.translated():
            while part := list(itertools.islice(remaining, _DELETED_AT_ONCE)):
                names = [{"Key": self._name(key)} for key in part]
                self._client.delete_objects(Bucket=self._bucket.name, Delete={"Objects": names, "Quiet": True})

    def _name(self, key: str) -> str:
        return f"{self._bucket.prefix}{key}"
