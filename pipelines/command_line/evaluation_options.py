"""Options of `validate` and `test` about what is measured beside the numbers of the tasks."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.spec.evaluation import Unlisted


@dataclass(frozen=True)
class EvaluationRequest:
    """Measurements that a command line asks for, beside those of the document.

    Attributes:
        corruptions: whether to score corrupted images too.
        slices: a table that describes images, instead of the one of the document.
        columns: of this table.
        unlisted: see `pipelines.spec.evaluation.SlicesSpec`.
    """

    corruptions: bool = False
    slices: Path | None = None
    columns: tuple[str, ...] = ()
    unlisted: Unlisted = "stop"


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--corruptions",
        action="store_true",
        help="score under blur, noise, JPEG, brightness, contrast and rescaling at three strengths too: 18 more passes",
    )
    parser.add_argument(
        "--slices",
        metavar="FILE",
        help="CSV file with the column file_name and columns that describe images (default: evaluation.slices)",
    )
    parser.add_argument(
        "--slice-by",
        action="append",
        default=[],
        metavar="COLUMN",
        help="score the images of each value in this column of the file; repeatable",
    )
    parser.add_argument(
        "--unlisted",
        choices=("stop", "slice"),
        default="stop",
        help="images without a row in the file: stop (default), or score them as a slice of their own",
    )


def evaluation_request(options: argparse.Namespace) -> EvaluationRequest:
    """Return what the options ask for.

    Raises:
        ConfigError: a file is named without columns, or columns without a file.
    """
    if bool(options.slices) != bool(options.slice_by):
        missing = "--slice-by" if options.slices else "--slices"
        raise ConfigError(FieldProblem(missing, "missing; pass --slices FILE and --slice-by COLUMN together"))
    table = Path(options.slices) if options.slices else None
    return EvaluationRequest(options.corruptions, table, tuple(options.slice_by), options.unlisted)
