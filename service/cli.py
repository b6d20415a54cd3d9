"""The command `pyramidion`: it says what there is, starts the trainer or the service, and talks to a service.

Nothing heavy is imported before the command line is understood, and torch never is: what trains or draws replaces
this process (docs/adr/0003).
"""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence

from pipelines.errors import DISK_FULL, PyramidionError, print_error
from service.child_process import become
from service.version import version

USAGE_ERROR = 2
BROKEN_PIPE = 128 + 13
INTERRUPTED = 128 + 2

TRAINER_COMMANDS = {
    "fit": "train, keep the checkpoint that is best on val, score it on test, register it",
    "check": "tell what a job would be: its data, its network, and what trains",
    "plan": "print each group of parameters: its rate, its decay, and when it trains",
    "validate": "score a run's best checkpoint on val",
    "test": "score a run's best checkpoint on test",
}
DATA_COMMANDS = {
    "check": "print and write a report of a job's data; errors end with 78",
    "show": "write pictures with boxes as the model sees them, after augmentation",
    "synth": "write the demo's data set: shapes, textures, identities",
}
JOB_COMMANDS = {
    "jobs": "list a service's jobs, newest first",
    "show": "tell all that is known of a job",
    "logs": "print what a job's trainer said",
    "cancel": "end jobs, whatever they are at",
    "results": "print a job's numbers as tables",
}
COMMANDS = {
    **TRAINER_COMMANDS,
    "predict": "answer for images, with a run's best checkpoint or a service's model",
    "data": "check, show or synthesize data",
    "backbones": "list the catalog's backbones, or what is known of one",
    "serve": "run the job service on this machine",
    "submit": "have a service run a job",
    **JOB_COMMANDS,
}
MODULES = {
    **dict.fromkeys(JOB_COMMANDS, "jobs"),
    **{name: name for name in ("predict", "data", "backbones", "serve", "submit")},
}
"""Of `service.commands`, by command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code of one command line; what becomes the trainer does not return."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            code = _run(arguments)
        except SystemExit as leave:  # argparse's way of ending --help, --version and usage errors
            code = leave.code if isinstance(leave.code, int) else 0
        if sys.stdout is not None:  # it is None where it was closed from the start
            sys.stdout.flush()
        return code
    except PyramidionError as error:
        return print_error(error)
    except BrokenPipeError:
        _give_stdout_up()  # the reader is gone, as after `| head`
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        _give_stdout_up()
        print(f"error: cannot write: {error.strerror}; free the disk, or write elsewhere", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _give_stdout_up() -> None:
    """Have nothing complain again, such as Python's own flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    command, rest = arguments[:1], arguments[1:]
    _refuse_unknown("command", command, COMMANDS)
    if command == ["data"]:
        _refuse_unknown("data command", rest[:1], DATA_COMMANDS)
    is_about_commands = not command or command[0].startswith("-")
    is_about_data = command == ["data"] and (not rest or rest[0].startswith("-"))
    if is_about_commands or is_about_data:
        parser = _parser()
        if not command:
            parser.print_help(sys.stderr)
            return USAGE_ERROR
        parser.parse_args(arguments)
    if command[0] in TRAINER_COMMANDS:
        become("pipelines.cli", arguments)
    module = importlib.import_module(f"service.commands.{MODULES[command[0]]}")
    return int(module.run(arguments))


def _parser() -> argparse.ArgumentParser:
    """Return the parser of what is no command's own: help and the version."""
    parser = argparse.ArgumentParser(
        prog="pyramidion",
        description="Fine-tune one backbone for detection, classification and embedding at once.",
        epilog="`pyramidion COMMAND --help` tells more. A run is described by one document, see the README.",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"pyramidion {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, does in COMMANDS.items():
        if name == "data":
            data = commands.add_parser(name, help=does, allow_abbrev=False, formatter_class=_Help)
            data_commands = data.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
            for data_name, data_does in DATA_COMMANDS.items():
                data_commands.add_parser(data_name, help=data_does, add_help=False)
        else:
            commands.add_parser(name, help=does, add_help=False)
    return parser


class _Help(argparse.HelpFormatter):
    """Help with each command on a line of its own."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=20, width=100)
        # argparse forgets that commands stand further in than options, and breaks the line behind longer ones.
        self._action_max_length = 14


def _refuse_unknown(kind: str, words: Sequence[str], known: Mapping[str, str]) -> None:
    for word in words:
        if word in known or word.startswith("-"):
            continue
        near = difflib.get_close_matches(word, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"
        print(f"pyramidion: there is no {kind} {word!r}; {hint}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR)


if __name__ == "__main__":
    sys.exit(main())
