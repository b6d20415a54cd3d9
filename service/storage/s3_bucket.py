"""The client of a bucket of S3, or of a server that is compatible with it, with errors in words. Needs the extra `s3`.

Credentials, region and endpoint come from the usual variables: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL`.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from service.storage.base import StorageError, StorageUnavailable

PART_BYTES = 16 << 20
"""Larger objects are sent in parts; S3 takes at most 10,000 parts, 160 GB."""

_TRIES = 3
_DENIED = frozenset({"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_MISSING = frozenset({"404", "NoSuchKey"})


class S3Bucket:
    """A bucket, or the part of it below a prefix.

    Args:
        bucket: which must exist.
        prefix: of all keys, without slashes at its ends; may be empty.
        timeout_s: maximum time to connect, and to wait for data; every request is tried three times.
        setting: the variable that names the bucket, for messages.

    Attributes:
        label: the address, for messages.
        prefix: of all keys; it is empty, or ends with a slash.
        client: boto3's client.
        transfer: boto3's settings for uploads in parts.

    Raises:
        ImportError: boto3 is not installed.
    """

    def __init__(self, bucket: str, prefix: str, timeout_s: float, setting: str) -> None:
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config

        self.label = f"s3://{bucket}/{prefix}".rstrip("/")
        self.name, self.prefix, self._setting = bucket, f"{prefix}/" if prefix else "", setting
        config = Config(
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            retries={"total_max_attempts": _TRIES, "mode": "standard"},
            # Compatible servers lack the checksums that AWS added later; callers verify digests of their own.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self.client: Any = boto3.client("s3", config=config)
        # Its threads would each hold a part in memory.
        self.transfer = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
        )

    @contextlib.contextmanager
    def translated(self, missing: StorageError | None = None) -> Iterator[None]:
        """Raise StorageUnavailable for the errors of the client.

        Args:
            missing: raised instead if the object that a request names does not exist.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if missing is not None and code in _MISSING:
                raise missing from error
            raise StorageUnavailable(self._refusal(code, error.operation_name)) from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            raise StorageUnavailable(f"{self.label} cannot be used ({type(error).__name__}: {error})") from error

    def _refusal(self, code: str, operation: str) -> str:
        """Return the message for an error code of the server, which not all clients explain."""
        if code == "NoSuchBucket":
            return f"the bucket {self.name!r} does not exist; create it, or correct {self._setting}"
        if code in _DENIED:
            what = f"the credentials do not permit {operation} in {self.label} ({code})"
            return f"{what}; permit it, or correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or their file"
        return f"{self.label} refuses {operation} ({code})"
