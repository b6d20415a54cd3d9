"""Runs of benchmark trainings, which are resumed after a stop, and tables of their figures."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BENCH_DIR = ROOT / "runs/bench"
MIB = 2**10
"""The kernel reports resident memory in KiB."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Run:
    """One training; `options` are those of `pyramidion fit`, except for the run folder."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """The result.json of a run, with the time of all attempts and the peak resident memory of the trainer.

    `cpu_s` has the user and system time of the trainer, without the attempts that were killed.
    """

    result: dict[str, Any]
    wall_s: float
    peak_mib: float
    cpu_s: float = 0.0


def execute(run: Run, out: Path) -> Outcome:
    """Run a training unless `out` already has its result; exit with a message if it fails."""
    folder, times_path = out / run.name, out / "times.jsonl"
    if not (folder / "result.json").exists():
        print(f"== {run.name}: fit {' '.join(run.options)}", flush=True)
        process = _fit((*run.options, f"--run-dir={folder}"), out / f"{run.name}.log")
        spent = {name: value for name, value in asdict(process).items() if name != "exit_code"}
        with times_path.open("a", encoding="utf-8") as times:
            times.write(json.dumps({"run": run.name, **spent}) + "\n")
        if process.exit_code:
            outcome = f"exited with {process.exit_code}, see {out / run.name}.log"
            sys.exit(f"bench: {run.name} {outcome}; run the same command to resume it")
    attempts = [row for row in _rows(times_path) if row["run"] == run.name]
    return Outcome(
        json.loads((folder / "result.json").read_text("utf-8")),
        sum(row["wall_s"] for row in attempts),
        max((row.get("peak_mib", 0.0) for row in attempts), default=0.0),
        sum(row.get("cpu_s", 0.0) for row in attempts),
    )


def execute_all(
    runs: Sequence[Run], out: Path, jobs: int, finished: Callable[[Run, Outcome], None] = lambda run, outcome: None
) -> list[Outcome]:
    """Execute runs, `jobs` at a time; Ctrl-C stops them and starts no others.

    Args:
        runs: in the order in which they start.
        out: has their folders and logs.
        jobs: number of concurrent runs.
        finished: called with each run and its outcome when it ends, in a thread of its own.
    """

    def executed(run: Run) -> Outcome:
        outcome = execute(run, out)
        finished(run, outcome)
        return outcome

    out.mkdir(parents=True, exist_ok=True)
    try:
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(executed, runs))
    except KeyboardInterrupt:
        sys.exit("bench: stopped; run the same command to resume")


@dataclass(frozen=True)
class Process:
    """What a command has used; its memory is the peak of the resident memory, and both include its own subprocesses."""

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_mib: float


def run_process(command: Sequence[str], log_path: Path, environment: Mapping[str, str] | None = None) -> Process:
    """Run a command in the project's folder, with its output appended to a log, and wait for it.

    Args:
        command: the program and its arguments.
        log_path: the log.
        environment: variables in addition to those of this process.
    """
    started = time.monotonic()
    with log_path.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
        )
        while True:
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except KeyboardInterrupt:
                # The command received the same Ctrl-C; a trainer writes a checkpoint at the next step, so wait for it.
                continue
            process.returncode = os.waitstatus_to_exitcode(status)
            spent_s = time.monotonic() - started
            return Process(process.returncode, spent_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MIB)


def _fit(options: Sequence[str], log_path: Path) -> Process:
    """Run `pyramidion fit` like `run_process`, in a process that is forked from a server.

    The server has imported the trainer, if the benchmark asked for that with `multiprocessing.set_forkserver_preload`;
    no run spends time on it then. A trainer that was killed has no CPU time and no memory.
    """
    started = time.monotonic()
    context = get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(tuple(options), log_path, sender))
    process.start()
    sender.close()
    while process.exitcode is None:
        try:
            process.join()
        except KeyboardInterrupt:
            # As in `run_process`.
            continue
    try:
        usage = receiver.recv()
    except EOFError:
        usage = {"cpu_s": 0.0, "peak_mib": 0.0}
    return Process(process.exitcode, time.monotonic() - started, **usage)


def _train(options: Sequence[str], log_path: Path, usage: Connection) -> None:
    """Run `pyramidion fit` in this process, with its output in a file, and send what it has used."""
    from pipelines.cli import main

    os.chdir(ROOT)
    with log_path.open("a", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    code = main(["fit", *options])
    used = resource.getrusage(resource.RUSAGE_SELF)
    usage.send({"peak_mib": used.ru_maxrss / MIB, "cpu_s": used.ru_utime + used.ru_stime})
    sys.exit(code)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text("utf-8").splitlines())


def mean(values: Iterable[float]) -> float:
    """Return the mean; NaN without values."""
    found = list(values)
    return statistics.fmean(found) if found else float("nan")


def table(title: str, columns: Mapping[str, Sequence[Figures]]) -> str:
    """Return a Markdown table with one row per figure: mean, lowest and highest value of each column's runs."""
    names = list(dict.fromkeys(name for runs in columns.values() for run in runs for name in run))
    rows = {name: [_cell([run[name] for run in runs if name in run]) for runs in columns.values()] for name in names}
    return markdown(title, list(columns), rows)


def turned_table(title: str, rows: Mapping[str, Sequence[Figures]]) -> str:
    """Return a Markdown table like `table`, but with one column per figure."""
    names = list(dict.fromkeys(name for runs in rows.values() for run in runs for name in run))
    cells = {
        title: [_cell([run[name] for run in runs if name in run]) for name in names] for title, runs in rows.items()
    }
    return markdown(title, names, cells)


def markdown(title: str, header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Return a heading and a Markdown table."""
    lines = [f"### {title}", "", f"| | {' | '.join(header)} |", f"|---|{'---|' * len(header)}"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    digits = 3 if max(values) <= 1 else 0
    spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def hardware() -> str:
    """Return the processor, the number of available cores, and the versions."""
    import torch

    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Python {platform.python_version()}, torch {torch.__version__}"


def find_bccd() -> Path:
    """Return the folder of BCCD below a root of PYRAMIDION_DATA_ROOTS; exit with a message if it is missing."""
    named = os.environ.get("PYRAMIDION_DATA_ROOTS", "")
    for root in filter(None, named.split(os.pathsep)):
        if (Path(root) / "bccd/annotations/instances_test.json").is_file():
            return Path(root).resolve() / "bccd"
    sys.exit(
        "bench: no folder bccd with annotations/instances_test.json below PYRAMIDION_DATA_ROOTS "
        f"({named or 'not set'}); name the folder that holds bccd: PYRAMIDION_DATA_ROOTS=DIR make bench"
    )


def report(parts: Sequence[str], path: Path) -> None:
    """Print the parts and write them to a file."""
    text = "\n".join(parts)
    path.write_text(text, "utf-8")
    print(f"\n{text}\nwritten to {path}")
