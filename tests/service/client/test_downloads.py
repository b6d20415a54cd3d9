"""Downloads of the client over a connection that breaks off."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from service.api.artifacts import repr_digest
from service.client.client import Client
from service.client.downloads import download
from service.client.errors import ServiceError
from tests.http_server import handling

OLD, NEW = bytes(range(250)) * 40, bytes(reversed(range(250))) * 40


@dataclass
class BrokenLine:
    """A server of one file that understands ranges; each connection breaks off after some bytes of the body.

    Attributes:
        contents: of the file, for each request in turn; the last one stays.
        limits: number of bytes for each request in turn; without one the body is complete.
        ranges: that were requested.
    """

    contents: list[bytes]
    limits: list[int]
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def line() -> Iterator[BrokenLine]:
    line = BrokenLine([OLD], [])

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = line.contents.pop(0) if len(line.contents) > 1 else line.contents[0]
            digest = hashlib.sha256(content).digest()
            wanted, tag = self.headers["Range"], f'"{digest.hex()}"'
            line.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.headers["If-Range"] == tag else 0
            self.send_response(206 if start else 200)
            for name, value in [("ETag", tag), ("Repr-Digest", repr_digest(digest))]:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = start + line.limits.pop(0) if line.limits else len(content)
            self.wfile.write(content[start:end])
            self.close_connection = True

    with handling(Answer) as line.url:
        yield line


def test_download_that_breaks_off_is_resumed(line: BrokenLine, tmp_path: Path) -> None:
    line.limits = [3000, 2000]
    with Client(line.url) as client:
        path = download(client, "/file", tmp_path / "file")
    assert path.read_bytes() == OLD
    assert line.ranges == [None, "bytes=3000-", "bytes=5000-"]
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_file_that_changed_meanwhile_is_downloaded_from_its_beginning(line: BrokenLine, tmp_path: Path) -> None:
    line.contents, line.limits = [OLD, NEW], [3000]
    with Client(line.url) as client:
        assert download(client, "/file", tmp_path / "file").read_bytes() == NEW
    assert line.ranges == [None, "bytes=3000-"]


def test_download_that_never_continues_is_given_up_without_leftovers(
    line: BrokenLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.downloads.RETRY_BROKEN_S", 0.05)
    line.limits = [3000, *[0] * 100]
    with Client(line.url) as client, pytest.raises(ServiceError, match="no service answers at"):
        download(client, "/file", tmp_path / "file")
    assert set(line.ranges[1:]) == {"bytes=3000-"}
    assert list(tmp_path.iterdir()) == []
