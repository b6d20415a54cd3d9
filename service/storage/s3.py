"""Archives in a bucket of S3, or of a server that is compatible with it. Needs the extra `s3`."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from service.storage.base import ArchiveKey, ArchiveMissing, ArchiveStorage, DigestReader
from service.storage.s3_bucket import S3Bucket

_CHECK = "check"
"""Name of an object that is never stored."""


class S3Storage(ArchiveStorage):
    """Stores the archive with the key DIGEST/OWNER as the object PREFIX/DIGEST/OWNER."""

    def __init__(self, bucket: S3Bucket) -> None:
        self.label = bucket.label
        self._bucket, self._client = bucket, bucket.client

    def put(self, key: ArchiveKey, content: BinaryIO) -> None:
        with self._bucket.translated(ArchiveMissing(key)):
            # The reader raises at the end of wrong content, before the object is completed.
            self._client.upload_fileobj(
                DigestReader(key, content), self._bucket.name, self._object(key), Config=self._bucket.transfer
            )

    def read(self, key: ArchiveKey) -> Iterator[bytes]:
        with self._bucket.translated(ArchiveMissing(key)):
            body = self._client.get_object(Bucket=self._bucket.name, Key=self._object(key))["Body"]
            with contextlib.closing(body):
                yield from DigestReader(key, body).chunks()

    def delete(self, key: ArchiveKey) -> None:
        with contextlib.suppress(ArchiveMissing), self._bucket.translated(ArchiveMissing(key)):
            self._client.delete_object(Bucket=self._bucket.name, Key=self._object(key))

    def check(self) -> None:
        """Start an upload in parts, which stores nothing, and abort it."""
        name = f"{self._bucket.prefix}{_CHECK}"
        with self._bucket.translated():
            for _ in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket.name, Prefix=self._bucket.prefix, PaginationConfig={"MaxItems": 1}
            ):
                break
            upload = self._client.create_multipart_upload(Bucket=self._bucket.name, Key=name)
            self._client.abort_multipart_upload(Bucket=self._bucket.name, Key=name, UploadId=upload["UploadId"])

    def keys(self) -> Iterator[ArchiveKey]:
        prefix = self._bucket.prefix
        with self._bucket.translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket.name, Prefix=prefix)
            for page in pages:
                for found in page.get("Contents", ()):
                    if (key := ArchiveKey.parse(found["Key"].removeprefix(prefix))) is not None:
                        yield key

    def remove_partial(self, older_than_s: float) -> int:
        removed = 0
        newest = datetime.now(UTC) - timedelta(seconds=older_than_s)
        with self._bucket.translated():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket.name, Prefix=self._bucket.prefix
            )
            for page in pages:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < newest:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        removed += 1
        return removed

    def _object(self, key: ArchiveKey) -> str:
        return f"{self._bucket.prefix}{key}"
