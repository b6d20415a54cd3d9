"""`pyramidion jobs | show | logs | cancel | results`: what a service's jobs are at, and came to."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence

from rich.console import Console

from pipelines.errors import PyramidionError, print_error
from pipelines.evaluation.tables import print_results
from service.client.client import URL_VARIABLE, Client
from service.client.tables import job_page, jobs_table
from service.states import JobStatus

POLL_S = 0.2


def run(arguments: Sequence[str]) -> int:
    """Return the exit code of the command that the first word names."""
    command, *rest = arguments
    parser = argparse.ArgumentParser(
        prog=f"pyramidion {command}",
        description=f"{DESCRIPTIONS[command]} The service is the one at {URL_VARIABLE}.",
        allow_abbrev=False,
    )
    ARGUMENTS[command](parser)
    options = parser.parse_args(rest)
    with Client() as client:
        return ACTIONS[command](client, options)


def _jobs_arguments(parser: argparse.ArgumentParser) -> None:
    statuses = [str(status) for status in JobStatus]
    parser.add_argument("--status", nargs="+", action="extend", default=[], choices=statuses, metavar="S")
    parser.add_argument("--name", help="only jobs of this name")
    parser.add_argument("--limit", type=_count, default=20, metavar="N", help="default: 20")
    parser.add_argument("--json", action="store_true", help="a list of all that lists tell")


def _count(text: str) -> int:
    if not text.isdecimal() or (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; write a number from 1 on")
    return number


def _jobs(client: Client, options: argparse.Namespace) -> int:
    jobs = client.jobs([JobStatus(status) for status in options.status], options.name, options.limit)
    if options.json:
        print(json.dumps([job.model_dump(mode="json") for job in jobs], indent=1))
    else:
        _console().print(jobs_table(jobs) if jobs else "no jobs")
    return 0


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id")
    parser.add_argument("--json", action="store_true")


def _show(client: Client, options: argparse.Namespace) -> int:
    job = client.job(options.id)
    if options.json:
        print(job.model_dump_json(indent=1))
    else:
        _console().print(job_page(job))
    return 0


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    parser.add_argument("--attempt", type=_count, metavar="N", help="default: the last one")
    parser.add_argument("--tail", type=int, metavar="N", help="only the last lines")


def _logs(client: Client, options: argparse.Namespace) -> int:
    read = client.follow_log if options.follow else client.log
    for line in read(options.id, attempt=options.attempt, tail=options.tail):
        print(line.text, flush=options.follow)
    return 0


def _cancel_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until nothing of the jobs runs")


def _cancel(client: Client, options: argparse.Namespace) -> int:
    code = 0
    asked = []
    for job_id in options.ids:
        try:
            client.cancel(job_id)
            asked.append(job_id)
        except PyramidionError as error:
            code = print_error(error)
    for job_id in [] if options.no_wait else asked:
        while not (job := client.job(job_id)).status.is_terminal:
            time.sleep(POLL_S)
        print(f"{job_id}: {job.status}", file=sys.stderr)
    return code


def _results_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id")
    parser.add_argument("--json", action="store_true", help="result.json as it is")


def _results(client: Client, options: argparse.Namespace) -> int:
    result = client.results(options.id)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print_results(result["split"], result["tasks"], _console())
    return 0


def _console() -> Console:
    """Return the standard output; what is no terminal gets lines that are not cut."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "jobs": _jobs_arguments,
    "show": _show_arguments,
    "logs": _logs_arguments,
    "cancel": _cancel_arguments,
    "results": _results_arguments,
}
ACTIONS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "jobs": _jobs,
    "show": _show,
    "logs": _logs,
    "cancel": _cancel,
    "results": _results,
}
DESCRIPTIONS = {
    "jobs": "List jobs, newest first.",
    "show": "Tell all that is known of a job: why it waits, its attempts, why it failed.",
    "logs": "Print what a job's trainer said.",
    "cancel": "End jobs, whatever they are at; a job that has ended already is an error.",
    "results": "Print a job's numbers as tables.",
}
