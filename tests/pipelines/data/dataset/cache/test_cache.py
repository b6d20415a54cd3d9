"""What the data check stores: it is used while files do not change, and never needed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.data.dataset import image_files
from pipelines.data.dataset.cache import files, whole_index
from pipelines.run_folder.layout import CACHE_VARIABLE

OLD = time.time() - 1000
Read = Callable[[], list[str]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Return a function that returns the names of the images that were decoded since the last call."""
    names: list[str] = []
    decode = image_files.examine_image

    def record(path: Path, *settings: Any) -> Any:
        names.append(path.name)
        return decode(path, *settings)

    monkeypatch.setattr(image_files, "examine_image", record)

    def read() -> list[str]:
        found = sorted(names)
        names.clear()
        return found

    return read


@pytest.fixture
def old_folder(folder: Any, cache: Path) -> Any:
    folder.root = folder.root / "data"
    folder.coco("train", {"a.png": [{}], "b.png": [{}, {"bbox": [2, 2, 9, 9]}]})
    folder.coco("val", {"v.png": [{}]})
    settle(folder.root)
    return folder


def settle(root: Path) -> None:
    """Give all files a time of change that is long ago."""
    for path in root.rglob("*"):
        os.utime(path, (OLD, OLD))


def test_only_new_and_changed_images_are_decoded(old_folder: Any, examined: Read) -> None:
    first = old_folder.check()
    assert examined() == ["a.png", "b.png", "v.png"]
    assert old_folder.check() == first
    assert examined() == []
    images = old_folder.root / "images"
    Image.new("RGB", (60, 40), (9, 9, 9)).save(images / "b.png")
    os.utime(images / "b.png", (OLD + 1, OLD + 1))
    assert old_folder.check()[1].fingerprints != first[1].fingerprints
    assert examined() == ["b.png"]
    (images / "a.png").write_bytes((images / "a.png").read_bytes() + b"more")
    os.utime(images / "a.png", (OLD, OLD))
    old_folder.check()
    assert examined() == ["a.png"]


def test_facts_depend_on_whether_exif_is_applied(old_folder: Any, examined: Read) -> None:
    old_folder.check()
    old_folder.check(exif="apply")
    assert examined() == ["a.png", "a.png", "b.png", "b.png", "v.png", "v.png"]
    old_folder.check()
    old_folder.check(exif="apply")
    assert examined() == []


def test_file_that_may_still_change_is_not_stored(old_folder: Any, examined: Read) -> None:
    os.utime(old_folder.root / "images/a.png")
    old_folder.check()
    examined()
    old_folder.check()
    assert examined() == ["a.png"]


def test_content_with_the_same_size_and_time_of_change_is_not_noticed(old_folder: Any, examined: Read) -> None:
    """This is the documented limit: noticing it would mean to read every file at every start."""
    old_folder.check()
    path = old_folder.root / "images/a.png"
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, (OLD, OLD))
    assert not old_folder.check()[1].errors


def test_unreadable_images_are_read_again(old_folder: Any, examined: Read) -> None:
    (old_folder.root / "images/a.png").write_bytes(b"broken")
    settle(old_folder.root)
    for _ in range(2):
        assert old_folder.check()[1].count("unreadable_image") == 1
        assert "a.png" in examined()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", None])
def test_damaged_files_are_ignored_and_replaced(old_folder: Any, cache: Path, examined: Read, damage: Any) -> None:
    expected = old_folder.check()
    (stored,) = cache.iterdir()
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 255
    stored.write_bytes(bytes(content) if damage is None else damage)
    examined()
    assert old_folder.check() == expected
    assert examined() == ["a.png", "b.png", "v.png"]
    old_folder.check()
    assert examined() == []


def test_facts_of_other_code_are_ignored(old_folder: Any, examined: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    old_folder.check()
    monkeypatch.setattr(files.PIL, "__version__", "0.0")
    examined()
    old_folder.check()
    assert len(examined()) == 3


def test_check_works_where_nothing_can_be_stored(
    old_folder: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = old_folder.check()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/below", Path("/proc/nowhere"), Path("/dev/full/x")):
        monkeypatch.setenv(CACHE_VARIABLE, str(folder))
        assert old_folder.check() == expected
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert old_folder.check() == expected


def test_index_of_a_large_set_is_stored_until_a_file_changes(
    old_folder: Any, examined: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_index, "MIN_IMAGES", 3)
    read = whole_index.IndexCache.load
    loaded: list[bool] = []

    def load(cache: whole_index.IndexCache) -> Any:
        found = read(cache)
        loaded.append(found is not None)
        return found

    monkeypatch.setattr(whole_index.IndexCache, "load", load)
    first = old_folder.check()
    assert old_folder.check() == first
    assert old_folder.check(tasks={"things": {"head": "retinanet"}}) == first
    assert loaded == [False, True, False]
    old_folder.coco("val", {"v.png": [{}, {"bbox": [5, 5, 6, 6]}]})
    changed = old_folder.check()
    assert len(changed[0].records["val"][0].labels["things"]) == 2
    assert loaded[3:] == [False]
    old_folder.check()
    assert loaded[4:] == [False], "val.json may still change"
    settle(old_folder.root)
    old_folder.check()
    assert old_folder.check() == changed
    assert loaded[5:] == [False, True]
    (old_folder.root / "images/new.png").write_bytes((old_folder.root / "images/a.png").read_bytes())
    assert old_folder.check()[1].count("unlisted_image") == 1


def test_index_with_errors_is_not_stored(old_folder: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_index, "MIN_IMAGES", 1)
    (old_folder.root / "images/a.png").unlink()
    settle(old_folder.root)
    assert old_folder.check()[1].errors
    assert old_folder.check(on_error="skip")[1].skipped
    assert [path.name[:5] for path in cache.iterdir()] == ["facts"]


def test_processes_may_store_at_the_same_time(old_folder: Any, cache: Path, examined: Read) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.pipelines.data_folder import DataFolder\n"
        "for _ in range(8): DataFolder(Path(sys.argv[1])).check()\n"
        "print(len(DataFolder(Path(sys.argv[1])).check()[0].records['train']))"
    )
    command = [sys.executable, "-c", code, str(old_folder.root)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[5])}
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=120)[0] for process in started] == ["2\n"] * 3
    old_folder.check()
    assert examined() == []
    assert len(list(cache.iterdir())) == 1


def test_files_that_were_not_used_for_months_are_deleted(old_folder: Any, cache: Path) -> None:
    cache.mkdir()
    for name, age_s in (("old.npz", files.MAX_AGE_S + 100), ("new.npz", 100)):
        (cache / name).touch()
        os.utime(cache / name, (time.time() - age_s,) * 2)
    old_folder.check()
    assert sorted(path.name[:5] for path in cache.iterdir()) == ["facts", "new.n"]
