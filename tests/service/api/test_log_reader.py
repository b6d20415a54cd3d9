import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.run_folder.log_text import clean
from service.api import log_reader
from service.api.log_reader import BLOCK_BYTES, Block, read_block, tail_start
from service.api.log_stream import as_ndjson, as_text


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def read_all(path: Path, start: int = 0, until: int | None = None) -> list[Block]:
    blocks = []
    while (block := read_block(path, start, until=until)).end > start:
        start = block.end
        blocks.append(block)
    return blocks


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain \xc3\xa4 text\n", "plain ä text\n"),
        (b"\x1b[1;31mred\x1b[0m\n", "red\n"),
        (b"\x1b]8;;http://x\x07link\x1b]8;;\x1b\\ \x1b(Bend\n", "link end\n"),
        (b"\x1b]never closed\nnext\n", "\nnext\n"),
        (b"10%\r 50%\r100%\n", "100%\n"),
        (b"10%\r100%\r\r\n", "100%\n"),
        (b"dos\r\nends\r\n", "dos\nends\n"),
        (b"50%\r\x1b[2K\n", "50%\n"),
        (b"a\rb\nc\rd\r\n\re\n", "b\nd\ne\n"),
        (b"bell\x07 nul\x00 tab\t\n", "bell nul tab\t\n"),
        (b"bad \xff\xfe bytes\n", "bad \ufffd\ufffd bytes\n"),
    ],
)
def test_text_equals_the_final_state_of_a_terminal(raw: bytes, text: str) -> None:
    assert clean(raw) == text


@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"\x1b[2K", b"\x1b", b"[1", b"ab", b"\xc3\xa4", b"\xff", b"]", b"\x07"]))
)
def test_cleaning_keeps_line_ends_and_removes_control_characters(parts: list[bytes]) -> None:
    raw = b"".join(parts)
    text = clean(raw)
    assert text.count("\n") == raw.count(b"\n")
    assert not set(text) & {"\r", "\x1b", "\x07"}


def test_unfinished_line_waits_until_the_log_has_ended(log: Path) -> None:
    log.write_bytes(b"one\ntwo")
    assert read_all(log) == [Block(b"one\n", 4)]
    assert read_all(log, until=7) == [Block(b"one\n", 4), Block(b"two", 7)]


def test_missing_or_shorter_log_has_no_lines(log: Path) -> None:
    assert read_block(log, 0).raw == b""
    log.write_bytes(b"one\n")
    assert read_block(log, 2**63 - 1) == Block(b"", 2**63 - 1)


def test_line_longer_than_a_block_is_split_between_characters(log: Path) -> None:
    raw = b"x" + "€".encode() * BLOCK_BYTES + b"\nend\n"
    log.write_bytes(raw)
    blocks = read_all(log)
    assert b"".join(block.raw for block in blocks) == raw
    assert max(len(block.raw) for block in blocks) <= BLOCK_BYTES
    assert b"".join(as_text(1, block) for block in blocks) == raw
    assert all(json.loads(line)["offset"] <= len(raw) for block in blocks for line in as_ndjson(1, block).splitlines())


def test_long_progress_bar_is_reduced_to_its_last_state(log: Path) -> None:
    log.write_bytes(b"start\n" + b"".join(b"\r%6d of 100000" % step for step in range(100_000)) + b"\nend\n")
    assert log.stat().st_size > 4 * BLOCK_BYTES
    assert b"".join(as_text(1, block) for block in read_all(log)) == b"start\n 99999 of 100000\nend\n"


def test_reading_continues_at_the_offset_of_a_line(log: Path) -> None:
    raw = "first\n\x1b[1mzw€ite\x1b[0m\n10%\r100%\nlast".encode()
    log.write_bytes(raw)
    lines = [json.loads(line) for block in read_all(log, until=len(raw)) for line in as_ndjson(1, block).splitlines()]
    assert [line["text"] for line in lines] == ["first", "zw€ite", "100%", "last"]
    for line, following in itertools.pairwise(lines):
        (block, *_) = read_all(log, line["offset"], len(raw))
        assert json.loads(as_ndjson(1, block).splitlines()[0]) == following


@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 18])
@given(lines=st.lists(st.sampled_from([b"", b"a", b"bcd"])), is_open=st.booleans(), wanted=st.integers(0, 6))
def test_tail_does_not_depend_on_the_block_size(
    tmp_path_factory: pytest.TempPathFactory, block_bytes: int, lines: list[bytes], is_open: bool, wanted: int
) -> None:
    log = tmp_path_factory.mktemp("tail") / "log.txt"
    raw = b"".join(line + b"\n" for line in lines) + (b"open" if is_open else b"")
    log.write_bytes(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_reader, "BLOCK_BYTES", block_bytes)
        start, found = tail_start(log, wanted)
    all_lines = raw.splitlines(keepends=True)
    assert found == min(wanted, len(all_lines))
    assert raw[start:] == b"".join(all_lines[len(all_lines) - found :])


def test_tail_of_a_missing_log_is_empty(log: Path) -> None:
    assert tail_start(log, 5) == (0, 0)
