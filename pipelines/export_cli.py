"""`pyramidion export` and `pyramidion bench-model` in their own process."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from pipelines.base.cores import let_idle_threads_sleep
from pipelines.base.deferred_scipy import defer_scipy_signal
from pipelines.base.errors import ConfigError, ExitCode, FieldProblem
from pipelines.base.exit_codes import end_process, exit_code_of
from pipelines.base.garbage_collection import no_garbage_collection
from pipelines.base.signals import release_stop_signals
from pipelines.base.temporary_folder import require_temporary_folder
from pipelines.command_line.arguments import places_of
from pipelines.command_line.export_options import PARSERS
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.spec.export_settings import ExportSettings, settings_of_options
from pipelines.spec.export_summary import result_lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands, and return the exit code; 1 if an export did not pass its gate."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in PARSERS:
        print(f"usage: python -m pipelines.export_cli {'|'.join(PARSERS)} ...", file=sys.stderr)
        return ExitCode.USAGE
    let_idle_threads_sleep()
    defer_scipy_signal()

    def run() -> int:
        release_stop_signals()
        require_temporary_folder()
        options, overrides = PARSERS[words[0]]().parse_command_line(words[1:])
        try:
            for name, _ in overrides:
                raise ConfigError(FieldProblem(f"--{name}", "is not an option of this command; see its --help"))
            return _export(options) if words[0] == "export" else _benchmark(options)
        except ConfigError as error:
            if options.json:
                print(error.to_json())
            raise

    return exit_code_of(run)


def _export(options: argparse.Namespace) -> int:
    settings = settings_of_options({field: getattr(options, field) for field in ExportSettings.model_fields})
    with no_garbage_collection():
        from pipelines.run.export_run import export_run

    path = Path(options.run_dir)
    with redirect_stdout(sys.stderr):
        variant = export_run(path, settings, places_of(options))
    if options.json:
        print(json.dumps(variant.result.model_dump(mode="json"), allow_nan=False, ensure_ascii=False))
    else:
        folder = ExportsDir.of(path).variant(variant.name).path
        print("\n".join([*result_lines(variant.result), str(folder)]))
    if variant.servable:
        return ExitCode.DONE
    print(f"error: {variant.name} is not served: {variant.reason}", file=sys.stderr)
    return ExitCode.FAILED


def _benchmark(options: argparse.Namespace) -> int:
    with no_garbage_collection():
        from pipelines.export.benchmark import benchmark_table
        from pipelines.run.benchmark_run import benchmark_run

    with redirect_stdout(sys.stderr):
        result = benchmark_run(Path(options.run_dir), options.batch, options.threads, options.rounds)
    if options.json:
        print(json.dumps(result.model_dump(mode="json"), allow_nan=False, ensure_ascii=False))
    else:
        print(benchmark_table(result))
    return ExitCode.DONE


if __name__ == "__main__":
    end_process(main())
