"""Read logs of attempts in blocks of complete lines, without terminal control sequences. Torch-free."""

from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class Block:
    """Raw bytes of a log, up to byte offset `end` (exclusive)."""

    raw: bytes
    end: int


def read_block(path: Path, start: int, *, until: int | None = None) -> Block:
    """Return the next complete lines from byte `start` on; if there are none (yet), the block ends at `start`.

    With `until`, only the bytes before it are read, and an unfinished last line counts as complete. A line longer than
    `BLOCK_BYTES` is returned in parts; if it was redrawn with carriage returns, only its last state is returned.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            end = size if until is None else min(size, until)
            if start >= end:
                return Block(b"", start)
            file.seek(start)
            raw = file.read(min(BLOCK_BYTES, end - start))
    except FileNotFoundError:
        return Block(b"", start)
    cut = raw.rfind(b"\n") + 1
    if cut:
        return Block(raw[:cut], start + cut)
    if len(raw) < BLOCK_BYTES:
        return Block(b"", start) if until is None else Block(raw, start + len(raw))
    redrawn = raw.rfind(b"\r", 0, -1) + 1
    if redrawn:
        return Block(b"", start + redrawn)
    cut = len(raw) - _unfinished_bytes(raw)
    return Block(raw[:cut], start + cut)


def _unfinished_bytes(raw: bytes) -> int:
    """Return the number of bytes at the end that are the start of an incomplete UTF-8 character."""
    for length in (1, 2, 3):
        lead = raw[-length]
        if lead >= 0xC0:
            return length if length < (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4) else 0
        if lead < 0x80:
            return 0
    return 0


def tail_start(path: Path, num_lines: int) -> tuple[int, int]:
    """Return the byte offset of the last `num_lines` lines, and their number, which may be smaller."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0, 0
    with file:
        size = file.seek(0, 2)
        if not num_lines or not size:
            return size, 0
        position, found = size, 0
        while position:
            block = min(BLOCK_BYTES, position)
            position -= block
            file.seek(position)
            raw = file.read(block)
            # The newline at the very end does not start a line.
            at = block - 1 if position + block == size else block
            while (at := raw.rfind(b"\n", 0, at)) >= 0:
                found += 1
                if found == num_lines:
                    return position + at + 1, num_lines
        return 0, found + 1
