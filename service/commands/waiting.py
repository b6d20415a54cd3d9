"""Wait for the end of a job, show its result, and return the exit code of the command."""

import sys

from pipelines.base.console import SafeConsole
from pipelines.base.errors import ExitCode
from service.client.client import Client
from service.client.errors import ServiceUnreachable
from service.client.progress_display import follow
from service.client.tables import failure_text
from service.jobs.kinds.registry import job_kind
from service.rest.schemas import JobView
from service.states import FailureKind, JobStatus

EXIT_CODES = {
    FailureKind.CONFIG_INVALID: ExitCode.INVALID,
    FailureKind.DATA_INVALID: ExitCode.INVALID,
    FailureKind.NUMERICS: ExitCode.NUMERICS,
}
"""Exit codes of failures, the same as those of `fit`; any other failure is `ExitCode.FAILED`."""

EXIT_CODES_OF_WAIT = (
    "exit code 0: succeeded; 78: the document or the data is invalid; 65: a loss is not finite; 130: cancelled; 1: any "
    "other failure. Ctrl-C leaves the job running."
)


def wait_for_end(client: Client, job_id: str) -> int:
    """Show the progress of a job until it has ended, then its result or the reason of its failure; return the exit
    code."""
    console = SafeConsole(stderr=True)
    try:
        job = follow(client, job_id, console)
    except KeyboardInterrupt:
        print(f"job {job_id} keeps running; cancel it with `pyramidion cancel {job_id}`", file=sys.stderr)
        raise
    except ServiceUnreachable:
        print(
            f"job {job_id} is not affected: it continues, or resumes when the service is started again", file=sys.stderr
        )
        raise
    if job.status is JobStatus.SUCCEEDED:
        job_kind(job.kind).show_result(client.results(job_id), console)
    return report_end(job)


def report_end(job: JobView) -> int:
    """Print the reason if a job has not succeeded, and return the corresponding exit code."""
    if job.status is JobStatus.SUCCEEDED:
        return 0
    if job.failure is None:
        print(f"error: job {job.id} was {job.status}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    print(f"error: job {job.id} has failed: {failure_text(job.failure)}", file=sys.stderr)
    return EXIT_CODES.get(job.failure.kind, ExitCode.FAILED)
