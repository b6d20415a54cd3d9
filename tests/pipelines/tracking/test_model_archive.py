"""The archive of an exported model: its bytes, and reading them from any position."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from pipelines.tracking.model_archive import ModelArchive, archive_facts

CONTENTS = {"model.json": b"{}", "model.safetensors": bytes(range(256)) * 5, "empty": b"", "full block": b"x" * 512}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def bytes_of(archive: ModelArchive, start: int, step: int) -> bytes:
    parts = []
    while part := archive.read_at(step, start):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def test_archive_holds_the_files_and_has_the_stated_size_and_checksum(folder: Path) -> None:
    archive = ModelArchive(folder)
    content = bytes_of(archive, 0, 1 << 20)
    assert len(content) == archive.num_bytes
    assert archive.facts() == archive_facts(folder)
    assert archive.facts().sha256 == hashlib.sha256(content).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        found = {entry.name: opened.extractfile(entry) for entry in opened.getmembers()}
        assert {name: file.read() for name, file in found.items() if file} == CONTENTS
        assert list(found) == sorted(CONTENTS)
    archive.close()


def test_any_position_continues_the_archive(folder: Path) -> None:
    archive = ModelArchive(folder)
    content = bytes_of(archive, 0, 1 << 20)
    for start in range(0, archive.num_bytes + 1, 61):
        assert bytes_of(archive, start, 509) == content[start:]
    archive.close()


def test_archive_is_complete_although_its_folder_was_removed(folder: Path) -> None:
    expected, archive = archive_facts(folder), ModelArchive(folder)
    for name in CONTENTS:
        (folder / name).unlink()
    assert archive.facts() == expected
    archive.close()


def test_file_that_has_become_shorter_ends_the_archive(folder: Path) -> None:
    archive = ModelArchive(folder)
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(OSError, match="has become shorter"):
        archive.facts()
    archive.close()
