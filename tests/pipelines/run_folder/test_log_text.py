"""The end of a log, as a terminal would show it."""

from pathlib import Path

from pipelines.run_folder.log_text import log_tail


def test_tail_of_a_log_reads_as_a_terminal_would_show_it(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"x" * 10000 + b"\n\x1b[31mepoch 1\x1b[0m\r\x1b[2Kepoch 2\r\n \xff \n\n")
    assert log_tail(log, 8192) == ["epoch 2", " \ufffd ", ""]


def test_line_that_starts_before_the_tail_is_skipped_unless_it_is_the_only_one(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"first\nsecond\n")
    assert log_tail(log, 10) == ["second"]
    log.write_bytes(b"x" * 20)
    assert log_tail(log, 5) == ["xxxxx"]


def test_missing_log_has_no_lines(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none") == []
