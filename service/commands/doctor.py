"""`pyramidion doctor`: check an installation and say what to do. Its options are those of `pyramidion serve`."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.base.console import terminal_console
from pipelines.base.errors import ConfigError, ExitCode, FieldProblem
from pipelines.base.quantities import quantity
from service.commands.serve import read_settings
from service.doctor import database, installation, machine, servers
from service.doctor.findings import CheckResult, checked
from service.executors.registry import check_executor, engine_of_service
from service.server.prerequisites import check_folders
from service.settings import Settings


def run(arguments: Sequence[str]) -> int:
    """Print the results of all checks; return 1 if any has failed."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--json", action="store_true", help="print JSON instead of a table")
    flags, settings_arguments = own.parse_known_args(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="pyramidion doctor",
        description="Check this installation and the service on a root, and say what to do about each failed check. "
        "The exit code is 1 if a check has failed. Nothing is changed.",
        parents=[own],
        allow_abbrev=False,
    )
    try:
        results = _results(read_settings(parser, settings_arguments))
    except ConfigError as error:
        results = [_failed_setting(problem) for problem in error.problems]
    if flags.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        _print(results)
    return ExitCode.FAILED if any(result.outcome == "failed" for result in results) else ExitCode.DONE


def _results(settings: Settings) -> list[CheckResult]:
    checks: dict[str, Callable[[], Iterable[CheckResult]]] = {
        "python": machine.python,
        "torch": partial(machine.torch, settings),
        "settings": partial(_check_settings, settings),
        "root": partial(installation.root, settings),
        "database": partial(database.database, settings),
        "cluster": partial(servers.cluster, settings),
        "mlflow": partial(servers.mlflow, settings),
        "storage": partial(servers.storage, settings),
        "run storage": partial(servers.run_storage, settings),
        "predictor": partial(servers.predictor, settings),
        "open files": machine.open_files,
        "shared memory": machine.shared_memory,
        "cores": partial(machine.cores, settings),
        "temporary folder": machine.temporary_folder,
        "service": partial(installation.processes, settings),
    }
    return [result for name, check in checks.items() for result in checked(name, check)]


def _check_settings(settings: Settings) -> Iterable[CheckResult]:
    try:
        if engine_of_service(settings) is None:
            check_executor(settings)
        if settings.root.exists():
            check_folders(settings)
    except ConfigError as error:
        for problem in error.problems:
            yield _failed_setting(problem)
    else:
        yield CheckResult("settings", "ok", f"executor {settings.executor}")


def _failed_setting(problem: FieldProblem) -> CheckResult:
    text, _, remedy = str(problem).partition("; ")
    return CheckResult("settings", "failed", text, remedy or "correct this setting")


def _print(results: Sequence[CheckResult]) -> None:
    console = terminal_console()
    table = Table("check", "result", "found", "what to do", box=SIMPLE_HEAD)
    for result in results:
        table.add_row(*map(escape, (result.name, result.outcome, result.detail, result.remedy)))
    console.print(table)
    num_failed, num_warnings = (sum(one.outcome == kind for one in results) for kind in ("failed", "warning"))
    failed = f"{num_failed} of {len(results)} checks failed" if num_failed else "no check failed"
    console.print(f"{failed}, {quantity(num_warnings, 'warning')}")
