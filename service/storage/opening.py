"""Open the storage that the settings name."""

from pathlib import Path
from urllib.parse import urlsplit

from pipelines.base.errors import ConfigError, FieldProblem
from service.storage.base import ArchiveStorage
from service.storage.local import LocalStorage
from service.storage.objects import ObjectStore, S3Objects
from service.storage.s3 import S3Storage
from service.storage.s3_bucket import S3Bucket

ARCHIVES_VARIABLE = "PYRAMIDION_STORAGE_URL"
RUNS_VARIABLE = "PYRAMIDION_RUN_STORAGE"


def open_storage(url: str | None, folder: Path, timeout_s: float) -> ArchiveStorage:
    """Return the storage of archives at a URL `s3://BUCKET/PREFIX`, or that of a folder if there is no URL.

    Nothing is connected yet.

    Raises:
        ConfigError: the URL is invalid, or boto3 is not installed.
    """
    if url is None:
        return LocalStorage(folder)
    return S3Storage(_open_bucket(url, timeout_s, ARCHIVES_VARIABLE))


def open_run_storage(url: str, timeout_s: float) -> ObjectStore:
    """Return the storage of run folders at a URL `s3://BUCKET/PREFIX`; as `open_storage`."""
    return S3Objects(_open_bucket(url, timeout_s, RUNS_VARIABLE))


def _open_bucket(url: str, timeout_s: float, variable: str) -> S3Bucket:
    parsed = urlsplit(url)
    if parsed.scheme != "s3" or not parsed.netloc or parsed.query or parsed.fragment or "@" in parsed.netloc:
        message = "is not the address of a bucket; write s3://BUCKET/PREFIX, and the endpoint in AWS_ENDPOINT_URL"
        raise ConfigError(FieldProblem(variable, f"got {parsed.scheme[:20]!r}: {message}"))
    try:
        return S3Bucket(parsed.netloc, parsed.path.strip("/"), timeout_s, variable)
    except ImportError as error:
        message = f"s3:// needs a package that is missing ({error}); run pip install 'pyramidion[s3]'"
        raise ConfigError(FieldProblem(variable, message)) from error
    except ValueError as error:  # botocore raises it for an endpoint that is not a URL
        raise ConfigError(FieldProblem("AWS_ENDPOINT_URL", f"{error}; write it as http://HOST:PORT")) from error
