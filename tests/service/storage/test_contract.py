"""Every archive storage keeps the promises of `service.storage.base`."""

import hashlib
import io
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError
from service.storage.base import ArchiveDamaged, ArchiveKey, ArchiveMissing, ArchiveStorage, StorageUnavailable
from service.storage.local import LocalStorage
from service.storage.opening import open_storage

CONTENT = b"some content " * 1000


def key_of(content: bytes, owner: str = "owner1") -> ArchiveKey:
    return ArchiveKey(hashlib.sha256(content).hexdigest(), owner)


def content_of(storage: ArchiveStorage, key: ArchiveKey) -> bytes:
    return b"".join(storage.read(key))


class Broken(io.BytesIO):
    """A stream that fails after its content, as that of a disk with an error."""

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        if not chunk:
            raise OSError(5, "Input/output error")
        return chunk


URLS = {"local": None, "s3": "s3_url", "seaweedfs": "seaweedfs_url"}


@pytest.fixture(params=["local", "s3", pytest.param("seaweedfs", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> ArchiveStorage:
    fixture = URLS[request.param]
    url = None if fixture is None else request.getfixturevalue(fixture)
    return open_storage(url, tmp_path / "archives", timeout_s=20)


def test_stored_archive_is_read_unchanged(storage: ArchiveStorage) -> None:
    key = key_of(CONTENT)
    storage.put(key, io.BytesIO(CONTENT))
    assert content_of(storage, key) == CONTENT
    assert list(storage.keys()) == [key]


def test_archive_of_several_parts_is_read_unchanged(storage: ArchiveStorage) -> None:
    content = bytes(range(256)) * (17 << 12)
    storage.put(key_of(content), io.BytesIO(content))
    assert content_of(storage, key_of(content)) == content


def test_empty_archive_is_stored(storage: ArchiveStorage) -> None:
    storage.put(key_of(b""), io.BytesIO())
    assert content_of(storage, key_of(b"")) == b""


def test_wrong_content_is_refused_and_invisible(storage: ArchiveStorage) -> None:
    with pytest.raises(ArchiveDamaged, match="upload it again"):
        storage.put(key_of(CONTENT), io.BytesIO(CONTENT + b"!"))
    assert list(storage.keys()) == []


def test_interrupted_archive_is_invisible_and_removed(storage: ArchiveStorage) -> None:
    with pytest.raises(StorageUnavailable):
        storage.put(key_of(CONTENT), Broken(CONTENT))
    assert list(storage.keys()) == []
    storage.remove_partial(0)
    assert storage.remove_partial(0) == 0


def test_missing_archive_is_reported(storage: ArchiveStorage) -> None:
    with pytest.raises(ArchiveMissing, match="has no archive"):
        content_of(storage, key_of(CONTENT))


def test_equal_archives_of_two_owners_are_deleted_one_by_one(storage: ArchiveStorage) -> None:
    first, second = key_of(CONTENT, "first"), key_of(CONTENT, "second")
    for key in (first, second):
        storage.put(key, io.BytesIO(CONTENT))
    storage.delete(first)
    storage.delete(first)
    assert list(storage.keys()) == [second]
    assert content_of(storage, second) == CONTENT


def test_damaged_content_is_noticed_when_it_is_read(storage: ArchiveStorage, tmp_path: Path) -> None:
    key = key_of(CONTENT)
    storage.put(key, io.BytesIO(CONTENT))
    if isinstance(storage, LocalStorage):
        (tmp_path / "archives" / str(key)).write_bytes(CONTENT[:-1] + b"?")
    else:
        import boto3

        bucket, _, prefix = storage.label.removeprefix("s3://").partition("/")
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=CONTENT[:-1] + b"?")
    with pytest.raises(ArchiveDamaged):
        content_of(storage, key)


def test_partial_archives_of_a_killed_process_are_removed_once_they_are_old(
    storage: ArchiveStorage, tmp_path: Path
) -> None:
    if isinstance(storage, LocalStorage):
        (tmp_path / "archives" / "partial").mkdir(parents=True)
        (tmp_path / "archives" / "partial" / "rest").write_bytes(b"123")
        assert storage.remove_partial(3600) == 0
    else:  # moto claims that all uploads were started in 2010
        import boto3

        bucket, _, prefix = storage.label.removeprefix("s3://").partition("/")
        boto3.client("s3").create_multipart_upload(Bucket=bucket, Key=f"{prefix}/{key_of(CONTENT)}")
    assert list(storage.keys()) == []
    assert storage.remove_partial(-3600) == 1
    assert storage.remove_partial(-3600) == 0


@pytest.fixture
def silent_endpoint() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_silent_server_is_unavailable_after_the_timeout(
    s3_url: str, silent_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent_endpoint)
    storage = open_storage(s3_url, tmp_path, timeout_s=0.1)
    calls: list[Callable[[], object]] = [
        lambda: storage.put(key_of(CONTENT), io.BytesIO(CONTENT)),
        lambda: content_of(storage, key_of(CONTENT)),
        lambda: storage.delete(key_of(CONTENT)),
        lambda: list(storage.keys()),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable, match="s3://tests/"):
            call()


def test_missing_bucket_is_unavailable_not_a_missing_archive(s3_url: str, tmp_path: Path) -> None:
    storage = open_storage("s3://no-such-bucket", tmp_path, timeout_s=20)
    with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
        content_of(storage, key_of(CONTENT))


def test_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = LocalStorage(tmp_path / "file")
    with pytest.raises(StorageUnavailable, match="cannot be used"):
        storage.put(key_of(CONTENT), io.BytesIO(CONTENT))


@pytest.mark.parametrize("url", ["gs://bucket", "s3://", "bucket/prefix", "s3://user:secret@bucket/x"])
def test_address_that_is_not_a_bucket_is_refused_without_showing_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="s3://BUCKET/PREFIX") as caught:
        open_storage(url, tmp_path, timeout_s=1)
    assert "secret" not in str(caught.value)


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigError, match=r"pip install 'pyramidion\[s3\]'"):
        open_storage("s3://bucket/prefix", tmp_path, timeout_s=1)


@pytest.mark.parametrize("owner", ["", "../x", "a/b", "A"])
def test_key_with_an_unsafe_owner_is_refused(owner: str) -> None:
    with pytest.raises(ValueError, match="archive key"):
        ArchiveKey("0" * 64, owner)


def test_folder_of_a_new_archive_survives_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[str] = set()
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    folder = tmp_path / "archives"
    LocalStorage(folder).put(key_of(CONTENT), io.BytesIO(CONTENT))
    assert {str(folder), str(folder / key_of(CONTENT).sha256)} <= synced
