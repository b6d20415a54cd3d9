"""`pyramidion export | bench-model`: this process becomes that of the export."""

from collections.abc import Sequence
from typing import NoReturn

from service.child_process import become


def run(arguments: Sequence[str]) -> NoReturn:
    """Replace this process with the command of the same name."""
    become("pipelines.export_cli", arguments)
