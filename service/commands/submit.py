"""`pyramidion submit`: a document becomes a job of a service; with --wait until it has ended."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from pipelines.arguments import OVERRIDES_HELP, dotted_overrides
from pipelines.evaluation.tables import print_results
from pipelines.spec.load import assemble
from service.client.client import URL_VARIABLE, Client
from service.client.errors import ServiceUnreachable
from service.client.progress_display import follow
from service.client.tables import dry_run_page, failure_text
from service.rest.schemas import JobView
from service.states import FailureKind, JobStatus

CANCELLED = 130
EXIT_CODES = {FailureKind.CONFIG_INVALID: 78, FailureKind.DATA_INVALID: 78, FailureKind.NUMERICS: 65}
"""Of failures, as `fit` ends with them; any other is 1."""


def run(arguments: Sequence[str]) -> int:
    """Submit, print the job's id, and return 0; with --wait what the job's end says."""
    parser = _parser()
    words, overrides = _split(parser, arguments[1:])
    options = parser.parse_args(words)
    config = assemble(options.config, dotted_overrides(overrides))
    resources = {"cpus": options.cpus, "gpus": options.gpus, "timeout_s": options.timeout}
    given = {name: value for name, value in resources.items() if value is not None}
    request = {"config": config, "priority": options.priority, "resources": given}
    with Client() as client:
        if options.dry_run:
            return _dry_run(client, request, as_json=options.json)
        job = client.submit(request)
        print(job.id, flush=True)
        return _wait(client, job.id) if options.wait else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyramidion submit",
        description=f"Have the service at {URL_VARIABLE} run a job; prints its id on the standard output.",
        epilog=f"{OVERRIDES_HELP}. With --wait: ends with 0 succeeded, 78 document or data wrong, 65 a loss is not "
        "finite, 130 cancelled, 1 any other failure; Ctrl-C leaves the job running.",
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="+", metavar="FILE", help="a file, or recipe:NAME; later ones win")
    parser.add_argument("--priority", type=int, default=0, metavar="N", help="higher ones start earlier")
    parser.add_argument("--cpus", type=int, metavar="N", help="cores, and threads of the trainer")
    parser.add_argument("--gpus", type=int, metavar="N")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds from the job's start to its end")
    parser.add_argument("--dry-run", action="store_true", help="only tell what the job would be")
    parser.add_argument("--json", action="store_true", help="of --dry-run: the whole answer")
    parser.add_argument("--wait", action="store_true", help="show progress until the job has ended, then its results")
    return parser


def _split(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that are the command's own, and those that set fields of the document."""
    own: list[str] = []
    fields: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        if not word.startswith("--") or name in parser._option_string_actions:
            own.append(word)
            continue
        fields.append(word)
        if not equals and rest:
            fields.append(rest.pop(0))
    return own, fields


def _dry_run(client: Client, request: dict[str, Any], *, as_json: bool) -> int:
    dry_run = client.dry_run(request)
    if as_json:
        print(dry_run.model_dump_json(indent=1))
    else:
        Console().print(dry_run_page(dry_run))
    return 0


def _wait(client: Client, job_id: str) -> int:
    console = Console(stderr=True)
    try:
        job = follow(client, job_id, console)
    except KeyboardInterrupt:
        print(f"job {job_id} goes on; `pyramidion cancel {job_id}` ends it", file=sys.stderr)
        raise
    except ServiceUnreachable:
        print(f"job {job_id} goes on, or will when the service is started again", file=sys.stderr)
        raise
    if job.status is JobStatus.SUCCEEDED:
        result = client.results(job_id)
        print_results(result["split"], result["tasks"], console)
    return tell_end(job)


def tell_end(job: JobView) -> int:
    """Say what has become of a job that has ended, and return the exit code that it stands for."""
    if job.status is JobStatus.SUCCEEDED:
        return 0
    if job.failure is None:
        print(f"error: job {job.id} was {job.status}", file=sys.stderr)
        return CANCELLED
    print(f"error: job {job.id} has failed: {failure_text(job.failure)}", file=sys.stderr)
    return EXIT_CODES.get(job.failure.kind, 1)
