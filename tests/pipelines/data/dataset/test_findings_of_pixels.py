"""Findings about the pixels of image files: truncated files, and values of more than 8 bits."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pipelines.data.dataset.checks.text import render_report
from tests.pipelines.data.raw_images import png16, tiff


def gray16(largest: int, smallest: int = 0) -> bytes:
    values = np.zeros((40, 60))
    values[0, 0], values[1:] = smallest, largest
    return png16(values, 0)


def with_images(folder: Any, **contents: bytes) -> None:
    """Write a data set with the images train.png, val.png and so on, by their splits' names."""
    for name, content in contents.items():
        (folder.root / "images").mkdir(exist_ok=True)
        (folder.root / "images" / f"{name}.png").write_bytes(content)
        folder.coco(name, {f"{name}.png": [{}]})


def messages(report: Any, kind: str) -> list[str]:
    return [str(finding) for finding in report.findings if finding.kind == kind]


def test_source_that_uses_a_small_part_of_its_range_gets_one_warning_with_the_range_to_set(folder: Any) -> None:
    with_images(folder, train=gray16(4095), val=gray16(3000))
    _, report = folder.check()
    (message,) = messages(report, "unused_value_range")
    assert message == (
        "its 2 images of 16-bit integers have values from 0 to 4095, and are read as [0, 65535], so they have little "
        "contrast; if the others are not used, set data.sources.s.value_range to [0, 4095], else to [0, 65535]"
    )
    assert report.errors == []
    for declared in ([0, 4095], [0, 65535]):
        assert messages(folder.check(value_range=declared)[1], "unused_value_range") == []


def test_integers_of_32_bits_with_small_values_get_the_warning(folder: Any) -> None:
    content = tiff(np.arange(2400).reshape(40, 60) % 256, "i4", sample_format=2)
    with_images(folder, train=content, val=content)
    (message,) = messages(folder.check()[1], "unused_value_range")
    assert "32-bit integers have values from 0 to 255" in message
    assert "set data.sources.s.value_range to [0, 255]" in message


def test_values_out_of_range_are_one_error_for_the_source(folder: Any) -> None:
    with_images(folder, train=gray16(5000), val=gray16(9000))
    _, report = folder.check(value_range=[0, 4095])
    (message,) = messages(report, "values_out_of_range")
    assert message == (
        "images/train.png: has values from 0 to 9000, but data.sources.s.value_range declares [0, 4095]; set "
        "data.sources.s.value_range to the range that the values of the whole source have, such as [0, 16383] (and 1 "
        "more image)"
    )
    assert len(report.errors) == 1


def test_full_range_and_8_bits_give_no_warning(folder: Any) -> None:
    with_images(folder, train=gray16(65535), val=gray16(40000))
    assert messages(folder.check()[1], "unused_value_range") == []


def test_range_of_a_source_of_8_bits_has_no_effect(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    (message,) = messages(folder.check(value_range=[0, 4095])[1], "unused_value_range")
    assert "data.sources.s.value_range has no effect: all images of this source have 8 bits per channel" in message


def test_truncated_jpeg_is_a_warning_and_is_used(folder: Any) -> None:
    folder.coco("train", {"a.jpg": [{}]})
    folder.coco("val", {"b.png": [{}]})
    path: Path = folder.root / "images" / "a.jpg"
    Image.effect_noise((60, 40), 90).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-700])
    index, report = folder.check()
    assert report.errors == []
    (message,) = messages(report, "truncated_image")
    assert re.fullmatch(r"images/a\.jpg: is truncated: its last \d+ rows are missing and gray", message)
    assert [record.file_name for record in index.records["train"]] == ["a.jpg"]
    assert "warning: truncated JPEG files (missing rows are gray): 1" in render_report(report)


def test_fingerprint_depends_on_the_range_of_values(folder: Any) -> None:
    with_images(folder, train=gray16(65535), val=gray16(60000))
    reports = [folder.check(**source)[1].fingerprints for source in ({}, {"value_range": [0, 65535]})]
    assert reports[0] != reports[1]


@pytest.mark.parametrize(
    ("value_range", "message"),
    [([4095, 0], "the smaller value first"), ([0, 0], "the smaller value first"), ([0, float("inf")], "finite")],
)
def test_range_must_be_finite_and_ascending(folder: Any, value_range: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        folder.job(value_range=value_range)
