"""A JPEG that ends too early is read as far as it goes; other formats are not."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from pipelines.base.errors import DataError
from pipelines.data.images import examine_image, read_image

SIDE = 240


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    """Return a JPEG of random blocks; about 700 of its bytes are headers."""
    blocks = np.random.default_rng(0).integers(0, 256, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).convert(mode).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def read_both(path: Path, content: bytes) -> tuple[int | None, np.ndarray]:
    path.write_bytes(content)
    facts, image = examine_image(path, "ignore"), read_image(path, "ignore")
    assert image.size == (facts.width, facts.height) == (SIDE, SIDE)
    return facts.missing_rows, np.asarray(image)


def test_complete_jpeg_is_not_truncated(tmp_path: Path) -> None:
    assert read_both(tmp_path / "a.jpg", jpeg())[0] is None


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_rows_without_data_are_counted_and_the_others_are_unchanged(tmp_path: Path, mode: str) -> None:
    content = jpeg(mode)
    _, whole = read_both(tmp_path / "a.jpg", content)
    missing, pixels = read_both(tmp_path / "b.jpg", content[: len(content) // 2])
    assert missing is not None
    assert 80 < missing < 150
    complete_rows = SIDE - missing - 24
    assert np.array_equal(pixels[:complete_rows], whole[:complete_rows])
    assert len(np.unique(pixels[-missing:])) == 1


@pytest.mark.parametrize("num_bytes", [1, 2, 3, 10, 30])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_without_its_last_bytes_is_read(tmp_path: Path, num_bytes: int, progressive: bool) -> None:
    missing, _ = read_both(tmp_path / "a.jpg", jpeg(progressive=progressive)[:-num_bytes])
    assert missing == 0


def test_progressive_jpeg_without_its_last_scans_is_read(tmp_path: Path) -> None:
    content = jpeg(progressive=True)
    assert read_both(tmp_path / "a.jpg", content[: len(content) // 2])[0] == 0


def test_jpeg_with_few_rows_or_none_is_an_error(tmp_path: Path) -> None:
    path, content = tmp_path / "a.jpg", jpeg()
    for size, message in ((len(content) // 8, r"only \d+ of its 240 rows can be decoded"), (400, "cannot be decoded")):
        path.write_bytes(content[:size])
        for read in (read_image, examine_image):
            with pytest.raises(DataError, match=message):
                read(path, "ignore")


def test_truncated_jpeg_keeps_its_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = jpeg(exif=exif)
    path = tmp_path / "a.jpg"
    path.write_bytes(content[: len(content) // 2])
    pixels = np.asarray(read_image(path, "apply"))
    assert len(np.unique(pixels[:, :50])) == 1  # the bottom of the stored image is at the left


def test_reading_a_truncated_jpeg_changes_nothing_for_other_threads(tmp_path: Path) -> None:
    content = jpeg()
    (tmp_path / "a.jpg").write_bytes(content[:-100])
    Image.effect_noise((60, 40), 50).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:-200])
    accepted = []

    def read_png() -> None:
        for _ in range(50):
            try:
                accepted.append(read_image(tmp_path / "b.png", "ignore"))
            except DataError:
                continue

    thread = threading.Thread(target=read_png)
    thread.start()
    for _ in range(50):
        read_image(tmp_path / "a.jpg", "ignore")
    thread.join()
    assert (accepted, ImageFile.LOAD_TRUNCATED_IMAGES) == ([], False)
