"""Run a module or a Python script whose clocks show the processor time of its process.

    python tests/bench/processor_clock.py -m MODULE ARGUMENT...
    python tests/bench/processor_clock.py FILE ARGUMENT...

A program of one thread then behaves on a busy machine as on an idle one: where it measures or limits a time, other
processes do not count. Pauses do not count either, so this is not a clock for programs that wait for others.

This file needs the standard library only, because it runs in other virtual environments too.
"""

import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

CLOCKS = ("time", "monotonic", "perf_counter")


def processor_clock(zero: float, process_time: Callable[[], float] = time.process_time) -> Callable[[], float]:
    """Return a clock that shows `zero` at the start of the process, and then its processor time."""
    return lambda: zero + process_time()


def main() -> None:
    """Replace the clocks, and run what the arguments name."""
    for name in CLOCKS:
        setattr(time, name, processor_clock(getattr(time, name)()))
    is_module = sys.argv[1] == "-m"
    del sys.argv[: 2 if is_module else 1]
    # As the interpreter does it: modules of the working folder, or of the script's folder, are found first.
    sys.path[0] = "" if is_module else str(Path(sys.argv[0]).parent)
    if is_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
