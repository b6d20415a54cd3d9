"""The command `pyramidion`, which starts the trainer or the service, or calls a service.

The module of a command is imported when the command runs, and torch never is: commands that train or draw replace this
process (docs/adr/0003).
"""

import os
import sys
from collections.abc import Sequence

import click

from pipelines.base.errors import DISK_FULL_ERRNOS, ExitCode, PyramidionError, print_error
from pipelines.base.printable import accept_any_text
from service.commands.registry import PYRAMIDION


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; commands that become the trainer do not return."""
    accept_any_text()
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:  # None if it was closed when Python started
            sys.stdout.flush()
        return code
    except PyramidionError as error:
        return print_error(error)
    except BrokenPipeError:
        _discard_stdout()  # the reader has ended, as after `| head`
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        _discard_stdout()
        print(f"error: cannot write: {error.strerror}; free disk space or write elsewhere", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _discard_stdout() -> None:
    """Prevent more errors from the same stream, such as those of Python's flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    # Not PYRAMIDION.main(): it turns Ctrl-C and a closed pipe into its own exit codes.
    try:
        with PYRAMIDION.make_context("pyramidion", arguments) as context:
            return PYRAMIDION.invoke(context) or ExitCode.DONE
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else PYRAMIDION.name
        print(f"{command}: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except SystemExit as end:  # argparse ends --help and usage errors this way
        return end.code if isinstance(end.code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
