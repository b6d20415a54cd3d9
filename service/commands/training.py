"""`pyramidion fit | check | plan | validate | test`: this process becomes the trainer."""

from collections.abc import Sequence
from typing import NoReturn

from service.child_process import become


def run(arguments: Sequence[str]) -> NoReturn:
    """Replace this process with the trainer's command of the same name."""
    become("pipelines.cli", arguments)
