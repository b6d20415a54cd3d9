"""`pyramidion export | bench-model`: this process becomes that of the export."""

from collections.abc import Sequence
from typing import NoReturn

from pipelines.command_line.export_options import PARSERS
from service.child_process import become


def run(arguments: Sequence[str]) -> NoReturn:
    """Replace this process with the command of the same name, unless the arguments only ask for help."""
    PARSERS[arguments[0]]().parse_command_line(arguments[1:])
    become("pipelines.export_cli", arguments)
