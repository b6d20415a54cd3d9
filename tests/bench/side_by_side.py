"""Measure training steps in one process and in two at the same time, as a Markdown table.

The steps are those of `tests.bench.frozen_stages` without frozen stages: the tasks of recipe:bccd_multitask on a
ResNet-18, 4 images of 256x320 pixels, bf16. Idle threads of torch spin (its default), sleep (the default of the
command), or do not exist (one thread). The cases alternate, and the medians over all rounds count. Run it on a machine
without other load: threads that spin suffer from any other process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from pipelines.base.cores import IDLE_THREADS_SLEEP, NUM_THREADS
from tests.bench.runs import ROOT, hardware, markdown

CASES: dict[str, Mapping[str, str]] = {
    "all cores, spinning while they wait (default of torch)": {},
    "all cores, sleeping (default of the command)": IDLE_THREADS_SLEEP,
    f"`{NUM_THREADS}=1`": {NUM_THREADS: "1"},
}
"""The variables of each case; the others that decide about threads are removed from the environment."""

HEADER = ["one process, images/s", "CPU ms per image", "two processes, images/s each", "CPU ms per image"]


@dataclass(frozen=True)
class Speed:
    """The speed of one process."""

    images_per_s: float
    cpu_ms: float


def environment_of(case: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the processes of a case."""
    decisive = {*IDLE_THREADS_SLEEP, NUM_THREADS, "MKL_NUM_THREADS"}
    return {name: value for name, value in os.environ.items() if name not in decisive} | dict(case)


def measure(case: Mapping[str, str], number: int, seconds: float) -> list[Speed]:
    """Return the speeds of `number` processes, which start their measurements at the same time.

    Args:
        case: variables of the environment.
        number: of processes.
        seconds: duration of the measurement.
    """
    command = [sys.executable, "-m", "tests.bench.side_by_side", "--steps", "--seconds", str(seconds)]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment_of(case), stdin=pipe, stdout=pipe, text=True)
        for _ in range(number)
    ]
    try:
        for process in processes:
            _line(process.stdout)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("start\n")
            process.stdin.flush()
        return [Speed(**json.loads(_line(process.stdout))) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _line(stream: IO[str] | None) -> str:
    line = stream.readline() if stream is not None else ""
    return line or sys.exit("bench: a process has ended before its measurement, see the error above")


def run_steps(seconds: float) -> None:
    """Print that this process is ready, wait for a line, and print the speed of the steps that follow."""
    from pipelines.spec.load import load_job
    from tests.bench.frozen_stages import NUM_IMAGES, Case

    overrides = [("model.backbone.name", "resnet18")]
    case = Case(load_job(["recipe:bccd_multitask"], overrides).model, 0)
    for _ in range(2):
        case.step_s()
    print("ready", flush=True)
    sys.stdin.readline()
    started, cpu_started, num_images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < seconds:
        case.step_s()
        num_images += NUM_IMAGES
    spent_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    print(json.dumps({"images_per_s": num_images / spent_s, "cpu_ms": 1000 * cpu_s / num_images}), flush=True)


def row(alone: Sequence[Speed], together: Sequence[Sequence[Speed]]) -> list[str]:
    """Return the cells of a case: medians of the rounds, for two processes those of the slower and of the faster one.

    Args:
        alone: one process, by round.
        together: two processes, by round.
    """
    pairs = [sorted(speed.images_per_s for speed in speeds) for speeds in together]
    slower, faster = (statistics.median(column) for column in zip(*pairs, strict=True))
    return [
        f"{statistics.median(speed.images_per_s for speed in alone):.1f}",
        f"{statistics.median(speed.cpu_ms for speed in alone):.0f}",
        f"{slower:.1f}, {faster:.1f}",
        f"{statistics.median(speed.cpu_ms for speeds in together for speed in speeds):.0f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="duration of one measurement (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each case (default: 3)")
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps:
        run_steps(options.seconds)
        return
    alone: dict[str, list[Speed]] = {title: [] for title in CASES}
    together: dict[str, list[list[Speed]]] = {title: [] for title in CASES}
    for _ in range(options.rounds):
        for title, case in CASES.items():
            alone[title] += measure(case, 1, options.seconds)
            together[title].append(measure(case, 2, options.seconds))
    rows = {title: row(alone[title], together[title]) for title in CASES}
    print(markdown("Two runs side by side", HEADER, rows))
    load = os.getloadavg()[2]
    print(f"{hardware()}; medians of {options.rounds} rounds of {options.seconds:g} s; load of 15 minutes: {load:.1f}")


if __name__ == "__main__":
    main()
