"""Progress of the check: quiet if it is short, lines in a log, a bar on a terminal."""

import io
from collections.abc import Iterator

import pytest

from pipelines.data.dataset import check_progress
from pipelines.data.dataset.check_progress import CheckProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Return the time in seconds, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(check_progress.time, "monotonic", lambda: now[0])
    return iter([now])


def test_short_check_prints_nothing() -> None:
    stream = io.StringIO()
    with CheckProgress("images", 100, stream) as progress:
        for _ in range(10):
            progress.advance(10)
    assert stream.getvalue() == ""


def test_long_check_prints_a_line_every_few_seconds(clock: Iterator[list[float]]) -> None:
    now, stream = next(clock), io.StringIO()
    with CheckProgress("images", 4000, stream) as progress:
        for second in range(1, 11):
            now[0] = float(second)
            progress.advance(400)
    assert stream.getvalue().splitlines() == [
        "checked 800 of 4,000 images (20%), about 8 s left",
        "checked 2,800 of 4,000 images (70%), about 3 s left",
    ]


def test_terminal_that_cannot_redraw_a_line_gets_lines(
    clock: Iterator[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    now, stream = next(clock), Terminal()
    with CheckProgress("images", 4000, stream) as progress:
        now[0] = 3.0
        progress.advance(400)
    assert stream.getvalue() == "checked 400 of 4,000 images (10%), about 27 s left\n"


def test_long_check_shows_a_bar_on_a_terminal(clock: Iterator[list[float]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    now, stream = next(clock), Terminal()
    with CheckProgress("images", 4000, stream) as progress:
        now[0] = 3.0
        progress.advance(400)
        progress.advance(400)
    assert "checking images" in stream.getvalue()
