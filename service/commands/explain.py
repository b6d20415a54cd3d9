"""`pyramidion explain`: this process becomes that of the explanation."""

from collections.abc import Sequence
from typing import NoReturn

from pipelines.command_line.explain_options import explain_parser, explanation_request
from service.child_process import become


def run(arguments: Sequence[str]) -> NoReturn:
    """Replace this process with the command of the same name, unless the arguments are wrong or ask for help."""
    options, _ = explain_parser().parse_command_line(arguments[1:])
    explanation_request(options)
    become("pipelines.explain_cli", arguments)
