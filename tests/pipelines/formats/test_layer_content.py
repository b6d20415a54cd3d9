"""Label files that cannot be read are findings."""

from functools import partial
from pathlib import Path

import pytest

from pipelines.base.findings import Finding
from pipelines.formats.layer_content import LayerContent
from pipelines.formats.text_files import text_lines


def read(path: Path) -> tuple[list[str] | None, list[str]]:
    """The lines of a file, and the messages about it."""
    content = LayerContent(file="x.txt")
    lines = content.read_file(path, text_lines, partial(Finding, file="x.txt"))
    assert {finding.kind for finding in content.findings} <= {"broken_label_file"}
    return lines, [finding.message for finding in content.findings]


def test_content_of_a_readable_file_is_returned(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read(tmp_path / "x.txt") == (["a", "b"], [])


def test_reason_of_the_system_is_shown_as_such() -> None:
    message = "cannot be read (Input/output error); correct its permissions, or restore the file"
    assert read(Path("/proc/self/mem")) == (None, [message])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\ncaf\xe9", "is not UTF-8 text (byte 0xe9 in line 2; it may be Latin-1 or Windows-1252); save it as UTF-8"),
        ("a".encode("utf-16"), "is not UTF-8 text (it has zero bytes, as UTF-16 has); save it as UTF-8"),
    ],
)
def test_other_encodings_are_reported_with_the_place(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.txt").write_bytes(data)
    assert read(tmp_path / "x.txt") == (None, [message])
