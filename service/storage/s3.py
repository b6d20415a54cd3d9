"""Archives in a bucket of S3, or of a server that is compatible with it. Needs the extra `s3`.

Credentials, region and endpoint come from the usual variables: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL`.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from service.storage.base import (
    ArchiveKey,
    ArchiveMissing,
    ArchiveStorage,
    DigestReader,
    StorageUnavailable,
)

PART_BYTES = 16 << 20
"""Larger archives are sent in parts; S3 takes at most 10,000 parts, 160 GB."""

_TRIES = 3
_CHECK = "check"
"""Name of an object that is never stored."""
_DENIED = frozenset({"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_MISSING = frozenset({"404", "NoSuchKey"})


class S3Storage(ArchiveStorage):
    """Stores the archive with the key DIGEST/OWNER as the object PREFIX/DIGEST/OWNER.

    Args:
        bucket: which must exist.
        prefix: of all keys, without slashes at its ends; may be empty.
        timeout_s: maximum time to connect, and to wait for data; every request is tried three times.

    Raises:
        ImportError: boto3 is not installed.
    """

    def __init__(self, bucket: str, prefix: str, timeout_s: float) -> None:
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config

        self.label = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        config = Config(
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            retries={"total_max_attempts": _TRIES, "mode": "standard"},
            # Compatible servers lack the checksums that AWS added later; the digest of each archive is verified here.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self._client: Any = boto3.client("s3", config=config)
        # Its threads would each hold a part in memory.
        self._transfer = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
        )

    def put(self, key: ArchiveKey, content: BinaryIO) -> None:
        with self._translated(key):
            # The reader raises at the end of wrong content, before the object is completed.
            self._client.upload_fileobj(
                DigestReader(key, content), self._bucket, self._object(key), Config=self._transfer
            )

    def read(self, key: ArchiveKey) -> Iterator[bytes]:
        with self._translated(key):
            body = self._client.get_object(Bucket=self._bucket, Key=self._object(key))["Body"]
            with contextlib.closing(body):
                yield from DigestReader(key, body).chunks()

    def delete(self, key: ArchiveKey) -> None:
        with self._translated(key), contextlib.suppress(ArchiveMissing):
            self._client.delete_object(Bucket=self._bucket, Key=self._object(key))

    def check(self) -> None:
        """Start an upload in parts, which stores nothing, and abort it."""
        name = f"{self._prefix}{_CHECK}"
        with self._translated():
            for _ in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix, PaginationConfig={"MaxItems": 1}
            ):
                break
            upload = self._client.create_multipart_upload(Bucket=self._bucket, Key=name)
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload["UploadId"])

    def keys(self) -> Iterator[ArchiveKey]:
        with self._translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            for page in pages:
                for found in page.get("Contents", ()):
                    if (key := ArchiveKey.parse(found["Key"].removeprefix(self._prefix))) is not None:
                        yield key

    def remove_partial(self, older_than_s: float) -> int:
        removed = 0
        newest = datetime.now(UTC) - timedelta(seconds=older_than_s)
        with self._translated():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for page in pages:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < newest:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        removed += 1
        return removed

    def _object(self, key: ArchiveKey) -> str:
        return f"{self._prefix}{key}"

    @contextlib.contextmanager
    def _translated(self, key: ArchiveKey | None = None) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if key is not None and code in _MISSING:
                raise ArchiveMissing(key) from error
            raise StorageUnavailable(self._refusal(code, error.operation_name)) from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            raise StorageUnavailable(f"{self.label} cannot be used ({type(error).__name__}: {error})") from error

    def _refusal(self, code: str, operation: str) -> str:
        """Return the message for an error code of the server, which not all clients explain."""
        if code == "NoSuchBucket":
            return f"the bucket {self._bucket!r} does not exist; create it, or correct PYRAMIDION_STORAGE_URL"
        if code in _DENIED:
            what = f"the credentials do not permit {operation} in {self.label} ({code})"
            return f"{what}; permit it, or correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or their file"
        return f"{self.label} refuses {operation} ({code})"
