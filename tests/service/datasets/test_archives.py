"""Untrusted archives are extracted safely, or not at all."""

import contextlib
import gzip
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.datasets.archives import extract_archive
from service.datasets.errors import ArchiveInvalid
from service.datasets.extraction import Extracted, ExtractionLimits
from service.disk_space import DiskAlmostFull
from tests.service.dataset_archives import tarred, zip_of, zipped

LIMITS = ExtractionLimits(max_files=50, max_bytes=1 << 20, max_file_bytes=1 << 19, max_ratio=100)
Extract = Callable[[bytes], Extracted]


@pytest.fixture
def extract(tmp_path: Path) -> Extract:
    """Extract an archive into `tmp_path / "a" / "files"`, whose parents show what leaves it."""

    def extract(content: bytes, limits: ExtractionLimits = LIMITS) -> Extracted:
        (tmp_path / "a" / "files").mkdir(parents=True)
        (tmp_path / "archive").write_bytes(content)
        return extract_archive(tmp_path / "archive", tmp_path / "a" / "files", limits)

    return extract


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for entry, data in entries:
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def entry_of(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def files_outside(root: Path) -> list[str]:
    found = [path for path in root.rglob("*") if not path.is_relative_to(root / "a" / "files")]
    return sorted(str(path.relative_to(root)) for path in found)


@pytest.mark.parametrize("pack", [zipped, tarred, lambda folder: tarred(folder, "w")], ids=["zip", "tar.gz", "tar"])
def test_files_are_extracted_unchanged(pack: Callable[[Path], bytes], extract: Extract, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    files = {"images/ä b.png": os.urandom(3000), "labels.json": b"{}", "empty": b""}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    assert extract(pack(folder)) == Extracted(3, 3002)
    out = tmp_path / "a" / "files"
    base = out / "data" if (out / "data").exists() else out
    assert {path.relative_to(base).as_posix(): path.read_bytes() for path in base.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil", "leads out"),
        ("a/../../evil", "leads out"),
        ("/evil", "leads out"),
        ("a\\..\\evil", "backslash"),
        ("a\nb", "control"),
        ("\x1b[2J", "control"),
        ("x" * 300, "too long"),
        ("/".join("a" * 40), "too long"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unsafe_name_makes_the_archive_invalid(
    name: str, reason: str, kind: str, extract: Extract, tmp_path: Path
) -> None:
    content = (
        zip_of({"ok": b"1", name: b"2"}) if kind == "zip" else tar_of((entry_of("ok"), b"1"), (entry_of(name), b"2"))
    )
    with pytest.raises(ArchiveInvalid, match=reason):
        extract(content)
    assert files_outside(tmp_path) == ["a", "archive"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
    ],
)
@pytest.mark.parametrize("target", ["/etc/passwd", "../../archive", "ok"])
def test_links_devices_and_pipes_of_a_tar_are_refused(kind: bytes, reason: str, target: str, extract: Extract) -> None:
    with pytest.raises(ArchiveInvalid, match=reason):
        extract(tar_of((entry_of("ok"), b"1"), (entry_of("link", kind, target), b"")))


def test_file_behind_a_link_to_a_folder_is_not_written(extract: Extract, tmp_path: Path) -> None:
    content = tar_of((entry_of("out", tarfile.SYMTYPE, str(tmp_path)), b""), (entry_of("out/evil"), b"2"))
    with pytest.raises(ArchiveInvalid, match="symbolic link"):
        extract(content)
    assert files_outside(tmp_path) == ["a", "archive"]


def test_link_of_a_zip_is_refused(extract: Extract) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveInvalid, match="symbolic link"):
        extract(content.getvalue())


def compressed(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def test_zip_bomb_stops_at_the_limit(extract: Extract, tmp_path: Path) -> None:
    content = compressed({f"{number}": bytes(400_000) for number in range(40)})
    assert len(content) < 40_000
    with pytest.raises(ArchiveInvalid, match="PYRAMIDION_DATASET_MAX_BYTES"):
        extract(content)
    written = sum(path.stat().st_size for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert written <= LIMITS.max_bytes


def test_gzip_bomb_stops_at_the_limit(extract: Extract, tmp_path: Path) -> None:
    content = gzip.compress(tar_of(*((entry_of(f"{number}"), bytes(400_000)) for number in range(40))))
    with pytest.raises(ArchiveInvalid, match="PYRAMIDION_DATASET_MAX_BYTES"):
        extract(content)
    assert sum(path.stat().st_size for path in (tmp_path / "a").rglob("*") if path.is_file()) <= LIMITS.max_bytes


def test_extraction_stops_before_the_disk_is_full(extract: Extract, tmp_path: Path) -> None:
    limits = replace(LIMITS, min_free_bytes=1 << 60)
    with pytest.raises(DiskAlmostFull, match="PYRAMIDION_MIN_FREE_BYTES"):
        extract(zip_of({"a": b"123"}), limits)  # type: ignore[call-arg]
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == 3] == []


def test_ratio_is_limited_for_large_contents(extract: Extract) -> None:
    limits = ExtractionLimits(max_files=50, max_bytes=1 << 40, max_file_bytes=1 << 30, max_ratio=10)
    content = compressed({"zeros": bytes(80 << 20)})
    with pytest.raises(ArchiveInvalid, match="10 times"):
        extract(content, limits)  # type: ignore[call-arg]


def test_size_in_the_header_is_not_trusted(extract: Extract) -> None:
    content = bytearray(compressed({"file": bytes(600_000)}))
    for position in (22, content.index(b"PK\x01\x02") + 24):
        content[position : position + 4] = (10).to_bytes(4, "little")
    with pytest.raises(ArchiveInvalid):
        extract(bytes(content))


def test_single_file_has_a_limit(extract: Extract) -> None:
    with pytest.raises(ArchiveInvalid, match="PYRAMIDION_DATASET_MAX_FILE_BYTES"):
        extract(zip_of({"large": bytes(LIMITS.max_file_bytes + 1)}))


@pytest.mark.parametrize(
    "pack", [zip_of, lambda files: tar_of(*((entry_of(name), data) for name, data in files.items()))]
)
def test_number_of_files_has_a_limit(pack: Callable[[dict[str, bytes]], bytes], extract: Extract) -> None:
    with pytest.raises(ArchiveInvalid, match="more than 50 files and folders"):
        extract(pack({f"{number}": b"" for number in range(51)}))


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_name_that_occurs_twice_is_refused(names: tuple[str, str], extract: Extract) -> None:
    with pytest.raises(ArchiveInvalid, match="occurs twice"):
        extract(tar_of(*((entry_of(name), b"1") for name in names)))


def test_name_that_is_not_utf8_is_refused(extract: Extract) -> None:
    content = tar_of((entry_of("caf\udce9.png"), b"1"))
    with pytest.raises(ArchiveInvalid, match=r"caf\\\\xe9.png' is not UTF-8"):
        extract(content)


def test_utf8_name_of_a_zip_without_the_flag_is_read(extract: Extract, tmp_path: Path) -> None:
    content = zip_of({"\u00e4.png": b"1"}).replace(b"\x00\x08", b"\x00\x00", 2)
    extract(content)
    assert (tmp_path / "a" / "files" / "\u00e4.png").read_bytes() == b"1"


def test_encrypted_zip_is_refused(extract: Extract) -> None:
    content = bytearray(zip_of({"file": b"1"}))
    for position in (6, content.index(b"PK\x01\x02") + 8):
        content[position] |= 1
    with pytest.raises(ArchiveInvalid, match="encrypted"):
        extract(bytes(content))


def test_sparse_file_of_a_tar_is_refused(extract: Extract) -> None:
    entry = entry_of("sparse", tarfile.GNUTYPE_SPARSE)
    with pytest.raises(ArchiveInvalid, match=r"sparse file|damaged"):
        extract(tar_of((entry, b"1")))


@pytest.mark.parametrize("content", [b"", b"MZ executable", b"\x89PNG" + bytes(600), b"Rar!" + bytes(600)])
def test_other_files_are_refused(content: bytes, extract: Extract) -> None:
    with pytest.raises(ArchiveInvalid, match="neither a zip, nor a tar"):
        extract(content)


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar.gz"])
def test_cut_archive_is_reported_as_damaged(pack: Callable[[Path], bytes], extract: Extract, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(9):
        (tmp_path / "data" / str(number)).write_bytes(os.urandom(4000))
    with pytest.raises(ArchiveInvalid, match="damaged"):
        extract(pack(tmp_path / "data")[:20_000])


def test_changed_byte_of_a_zip_is_noticed(extract: Extract) -> None:
    content = bytearray(zip_of({"file": b"1234567890"}))
    content[40] ^= 1
    with pytest.raises(ArchiveInvalid, match="damaged"):
        extract(bytes(content))


def test_zero_byte_in_a_name_of_a_zip_is_refused(extract: Extract) -> None:
    with pytest.raises(ArchiveInvalid, match="control"):
        extract(zip_of({"a.png?.exe": b"1"}).replace(b"a.png?", b"a.png\x00"))


def test_folders_that_names_imply_count_as_entries(extract: Extract, tmp_path: Path) -> None:
    names = [f"{number}/a/b/c/d/e/f/g/h/i/file" for number in range(20)]
    with pytest.raises(ArchiveInvalid, match="more than 50 files and folders"):
        extract(zip_of(dict.fromkeys(names, b"")))
    assert len(list((tmp_path / "a" / "files").rglob("*"))) <= 50


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_at_any_place_of_a_zip_makes_it_invalid(method: int, extract: Extract, tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr("images/1.png", bytes(range(256)) * 3)
    whole = content.getvalue()
    start = whole.index(b"PK\x01\x02")
    for position in (0, 4, 26, 28, 60, 70, start, start + 20, start + 42, start + 45, len(whole) - 6, len(whole) - 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        with contextlib.suppress(ArchiveInvalid):  # no other error; some bytes, such as times, mean nothing
            extract(bytes(damaged))
        shutil.rmtree(tmp_path / "a")
