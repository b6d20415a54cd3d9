"""The command `pyramidion`, which starts the trainer or the service, or calls a service.

The module of a command is imported when the command runs, and torch never is: commands that train or draw replace this
process (docs/adr/0003).
"""

import sys
from collections.abc import Sequence

import click

from pipelines.base.errors import ExitCode
from pipelines.base.exit_codes import exit_code_of
from service.commands.registry import PYRAMIDION


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; commands that become the trainer do not return."""
    return exit_code_of(lambda: _run(list(sys.argv[1:] if argv is None else argv)))


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
