"""The command `pyramidion`: it says what there is, starts the trainer, and looks at data and backbones.

Nothing heavy is imported before the command line is understood, and torch never is: what trains or draws replaces
this process (docs/adr/0003).
"""

import argparse
import difflib
import os
import sys
import sysconfig
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from pipelines.errors import PyramidionError, tell

USAGE_ERROR = 2
BROKEN_PIPE = 128 + 13
INTERRUPTED = 128 + 2

TRAINER_COMMANDS = {
    "fit": "train, keep the checkpoint that is best on val, score it on test, register it",
    "validate": "score a run's best checkpoint on val",
    "test": "score a run's best checkpoint on test",
    "predict": "answer for images, or for a split, with a run's best checkpoint",
}
DATA_COMMANDS = {
    "check": "print and write a report of a job's data; errors end with 78",
    "show": "write pictures with boxes as the model sees them, after augmentation",
    "synth": "write the demo's data set: shapes, textures, identities",
}
COMMANDS = {
    **TRAINER_COMMANDS,
    "data": "check, show or synthesise data",
    "backbones": "list the catalogue's backbones, or what is known of one",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code of one command line; `fit`, `validate`, `test` and `predict` do not return."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            code = _run(arguments)
        except SystemExit as leave:  # argparse's way of ending --help, --version and usage errors
            code = leave.code if isinstance(leave.code, int) else 0
        sys.stdout.flush()
        return code
    except PyramidionError as error:
        return tell(error)
    except BrokenPipeError:
        # The reader is gone, as after `| head`: Python's own flush at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in TRAINER_COMMANDS:
        replace_process("pipelines.cli", arguments)
    _refuse_unknown("command", arguments[:1], COMMANDS)
    if arguments[:1] == ["data"]:
        _refuse_unknown("data command", arguments[1:2], DATA_COMMANDS)
        if arguments[1:2] == ["show"]:
            replace_process("pipelines.show_cli", arguments[2:])
        if arguments[1:] and arguments[1] in DATA_COMMANDS:
            from service import data_command

            return data_command.run(arguments[1], arguments[2:])
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return USAGE_ERROR
    options = parser.parse_args(arguments)
    from service import backbones_command

    return backbones_command.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyramidion",
        description="Fine-tune one backbone for detection, classification and embedding at once.",
        epilog="`pyramidion COMMAND --help` tells more. A run is described by one document, see the README.",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"pyramidion {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in TRAINER_COMMANDS:
        commands.add_parser(name, help=COMMANDS[name], add_help=False)
    data = commands.add_parser("data", help=COMMANDS["data"], allow_abbrev=False, formatter_class=_Help)
    data_commands = data.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    for name, does in DATA_COMMANDS.items():
        data_commands.add_parser(name, help=does, add_help=False)
    backbones = commands.add_parser("backbones", help=COMMANDS["backbones"], allow_abbrev=False, formatter_class=_Help)
    backbones.add_argument("name", nargs="?", help="tell what is known of this one")
    backbones.add_argument("--all", action="store_true", help="list every name that a document can write")
    return parser


class _Help(argparse.HelpFormatter):
    """Help with each command on a line of its own."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=20, width=100)


def version() -> str:
    """Return the installed version, or what says that this is a source tree."""
    try:
        return metadata.version("pyramidion")
    except metadata.PackageNotFoundError:
        return "(a source tree that is not installed)"


def replace_process(module: str, arguments: Sequence[str]) -> NoReturn:
    """Become `python -m MODULE ARGUMENTS`: signals reach it, and its exit code is ours.

    `heads` is a common name. The child finds the packages that lie beside this one, whatever lies in the working
    directory and whatever other distribution ships a package of that name.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    root = Path(__file__).resolve().parent.parent
    # site-packages itself must not come before the standard library.
    if root != Path(sysconfig.get_path("purelib")).resolve():
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)


def _refuse_unknown(kind: str, words: Sequence[str], known: dict[str, str]) -> None:
    for word in words:
        if word in known or word.startswith("-"):
            continue
        near = difflib.get_close_matches(word, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"
        print(f"pyramidion: there is no {kind} {word!r}; {hint}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR)


if __name__ == "__main__":
    sys.exit(main())
