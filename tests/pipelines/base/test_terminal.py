"""What is printed cannot control the terminal, wherever it comes from."""

import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from pipelines.base.console import SafeConsole, kept_text, plain_console
from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.exit_codes import exit_code_of
from pipelines.base.terminal import escaped_output, unescaped
from pipelines.evaluation.tables import print_results

ROOT = Path(__file__).parents[3]
PACKAGES = ("backbones", "heads", "pipelines", "service")
TITLE = "\x1b]0;owned\x07"
CLEAR = "\x1b[2J\x1b[H"
C1 = "\x9b2J"
NAME = f"{TITLE}cat{CLEAR}{C1}\x7f\ud83d"
SHOWN = "\\u001b]0;owned\\u0007cat\\u001b[2J\\u001b[H\\u009b2J\\u007f\\ud83d"


class Screen(io.StringIO):
    """A terminal that keeps what it gets."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Screen])
def test_controls_are_escaped_in_whatever_is_printed(stream: Callable[[], io.StringIO]) -> None:
    out, err = stream(), stream()
    with redirect_stdout(out), redirect_stderr(err), escaped_output():
        print(f"class {NAME}\tof\r\n")
        print(NAME, file=sys.stderr)
    assert out.getvalue() == f"class {SHOWN}\tof\r\n\n"
    assert err.getvalue() == f"{SHOWN}\n"


def test_colors_are_kept_on_a_terminal_only() -> None:
    """Tracebacks and help texts of Python have colors there."""
    colored = "\x1b[1;31mred\x1b[0m\x1b[2K"
    for stream, shown in ((Screen(), "\x1b[1;31mred\x1b[0m\\u001b[2K"), (io.StringIO(), "\\u001b[1;31mred\\u001b[0m")):
        with redirect_stdout(stream), escaped_output():
            sys.stdout.writelines([colored])
        assert stream.getvalue().startswith(shown)


def test_streams_are_the_earlier_ones_afterwards() -> None:
    before = sys.stdout, sys.stderr
    with escaped_output(), escaped_output():
        assert unescaped(sys.stdout) is before[0]
        assert sys.stdout.fileno() == before[0].fileno()
    assert (sys.stdout, sys.stderr) == before


def test_closed_output_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with escaped_output():
        assert sys.stdout is None


@pytest.mark.parametrize("printed", [NAME, Text(NAME), Text.assemble("a ", (NAME, "bold"))])
def test_consoles_escape_texts_and_cells(printed: Any) -> None:
    table = Table(NAME, title=NAME)
    table.add_row(printed)
    screen = Screen()
    console = SafeConsole(file=screen, width=200, color_system=None, _environ={"TERM": "xterm"})
    console.print(printed)
    console.print(table)
    assert screen.getvalue().count("cat\\u001b[2J\\u001b[H\\u009b2J\\u007f\\ud83d") == 4
    assert "\x1b" not in screen.getvalue()


def test_console_still_draws_colors_through_escaped_output() -> None:
    screen = Screen()
    with redirect_stdout(screen), escaped_output():
        SafeConsole(force_terminal=True, width=80, color_system="standard", highlight=False).print(f"[red]{TITLE}x")
    assert screen.getvalue().startswith("\x1b[31m\\u001b]0;owned")


def test_kept_text_is_escaped() -> None:
    console = plain_console(120)
    console.print(NAME, markup=False)
    assert kept_text(console) == f"{SHOWN}\n"


def test_names_of_classes_in_result_tables_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"label": f"cat{TITLE}", "AP": 0.5, "AP50": 0.5, "AR": 0.5, "num_boxes": 3}
    result = {"kind": "detection", "num_images": 1, "per_class": [numbers], "coco": {"AP": 0.5}}
    print_results("test", {"cells": result})
    printed = capsys.readouterr().out
    assert "cat\\u001b]0;owned\\u0007" in printed
    assert "\x1b" not in printed


def test_errors_of_commands_are_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise DataError(FieldProblem(f"{CLEAR}train.json", f"the class {TITLE} is unknown"))

    with redirect_stderr(os.fdopen(os.dup(2), "w")):
        assert exit_code_of(command) == 78
    printed = capfd.readouterr().err
    assert printed.strip() == "error: \\u001b[2J\\u001b[Htrain.json: the class \\u001b]0;owned\\u0007 is unknown"


def test_every_program_escapes_its_output() -> None:
    """Except those that print into a file, whose readers escape it, or no names at all."""
    others = {
        "service/datasets/check_process.py", "service/decoding/process.py", "service/executors/ray/driver.py",
        "service/executors/ray/group_driver.py", "service/executors/ray/killer.py",
        "service/executors/ray/node_driver.py", "service/executors/slurm/first_node.py",
        "service/executors/slurm/other_node.py", "service/run_sync/node.py", "service/run_sync/ray_driver.py",
        "service/shim.py",
    }  # fmt: skip
    programs = {
        str(path.relative_to(ROOT)): text
        for package in ("pipelines", "service")
        for path in (ROOT / package).rglob("*.py")
        if "\nif __name__ ==" in (text := path.read_text("utf-8"))
    }
    raw = {name for name, text in programs.items() if not re.search(r"\b(exit_code_of|escape_output)\(", text)}
    assert raw == others


def test_every_console_is_a_safe_one() -> None:
    """And every other text is printed below `exit_code_of`, or in a process that calls `escape_output`."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if re.search(r"(?<![\w.])Console\(", line) and path.name != "console.py"
    ]
    assert found == []
