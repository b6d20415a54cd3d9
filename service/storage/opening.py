"""Open the archive storage that the settings name."""

from pathlib import Path
from urllib.parse import urlsplit

from pipelines.base.errors import ConfigError, FieldProblem
from service.storage.base import ArchiveStorage
from service.storage.local import LocalStorage

VARIABLE = "PYRAMIDION_STORAGE_URL"


def open_storage(url: str | None, folder: Path, timeout_s: float) -> ArchiveStorage:
    """Return the storage at a URL `s3://BUCKET/PREFIX`, or that of a folder if there is no URL.

    Nothing is connected yet.

    Raises:
        ConfigError: the URL is invalid, or boto3 is not installed.
    """
    if url is None:
        return LocalStorage(folder)
    parsed = urlsplit(url)
    if parsed.scheme != "s3" or not parsed.netloc or parsed.query or parsed.fragment or "@" in parsed.netloc:
        message = "is not the address of a bucket; write s3://BUCKET/PREFIX, and the endpoint in AWS_ENDPOINT_URL"
        raise ConfigError(FieldProblem(VARIABLE, f"got {parsed.scheme[:20]!r}: {message}"))
    try:
        from service.storage.s3 import S3Storage

        return S3Storage(parsed.netloc, parsed.path.strip("/"), timeout_s)
    except ImportError as error:
        message = f"s3:// needs a package that is missing ({error}); run pip install 'pyramidion[s3]'"
        raise ConfigError(FieldProblem(VARIABLE, message)) from error
    except ValueError as error:  # botocore raises it for an endpoint that is not a URL
        raise ConfigError(FieldProblem("AWS_ENDPOINT_URL", f"{error}; write it as http://HOST:PORT")) from error
