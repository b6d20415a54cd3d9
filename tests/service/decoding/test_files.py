"""Files are decoded in order and ahead of the caller; see `tests.service.predictor` for a hostile one."""

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.source_images import NewImageReader
from pipelines.inference.file_decoding import decode_here
from pipelines.spec.job import JobSpec
from service.decoding.files import FileDecoder
from service.decoding.worker import DecodingLimits

LIMITS = DecodingLimits(timeout_s=1.0, memory_bytes=2 << 30)


@pytest.fixture(scope="module")
def reader(small: dict[str, Any]) -> NewImageReader:
    return NewImageReader(JobSpec.model_validate(small).data)


def test_files_give_the_pixels_and_errors_of_this_process_in_order(tmp_path: Path, reader: NewImageReader) -> None:
    for number in range(3):
        Image.linear_gradient("L").resize((40 + number, 30)).save(tmp_path / f"{number}.png")
    (tmp_path / "3-broken.jpg").write_bytes(b"no image")
    files = [*sorted(tmp_path.iterdir()), tmp_path / "missing.png", tmp_path]
    before = set(psutil.Process().children())
    with FileDecoder(LIMITS, 2) as decoder:
        found = list(decoder.decode(files, reader))
    for decoded, expected in zip(found, decode_here(files, reader), strict=True):
        if isinstance(expected, DataError):
            assert isinstance(decoded, DataError)
            assert decoded.problems[0].message == expected.problems[0].message
        else:
            assert not isinstance(decoded, DataError)
            assert np.array_equal(decoded[0], expected[0])
            assert decoded[1] == expected[1]
    assert set(psutil.Process().children()) == before, "all processes have ended"


def test_caller_may_stop_in_between(tmp_path: Path, reader: NewImageReader) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with FileDecoder(LIMITS, 2) as decoder:
        some = decoder.decode([tmp_path / "a.png"] * 50, reader)
        assert not isinstance(next(some), DataError)
        some.close()  # type: ignore[attr-defined]
