"""`pyramidion explain` in its own process."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from pipelines.base.cores import let_idle_threads_sleep
from pipelines.base.errors import ConfigError, ExitCode, FieldProblem
from pipelines.base.exit_codes import end_process, exit_code_of
from pipelines.base.garbage_collection import no_garbage_collection
from pipelines.base.signals import release_stop_signals
from pipelines.base.temporary_folder import require_temporary_folder
from pipelines.command_line.explain_options import explain_parser, explanation_request


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    let_idle_threads_sleep()
    return exit_code_of(lambda: _run(words[1:]))


def _run(words: Sequence[str]) -> int:
    release_stop_signals()
    require_temporary_folder()
    options, overrides = explain_parser().parse_command_line(words)
    for name, _ in overrides:
        raise ConfigError(FieldProblem(f"--{name}", "is not an option of this command; see its --help"))
    request = explanation_request(options)
    with no_garbage_collection():
        from pipelines.run.explain_image import explain_image

    reference, out = (None if path is None else Path(path) for path in (options.reference, options.out))
    with redirect_stdout(sys.stderr):
        facts = explain_image(Path(options.run_dir), Path(options.image), request, reference=reference, out=out)
    print(facts.model_dump_json(indent=1))
    return ExitCode.DONE


if __name__ == "__main__":
    end_process(main())
