"""`pyramidion data show` in its own process: write pictures with boxes as the model sees them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.exit_codes import exit_code_of
from pipelines.base.garbage_collection import no_garbage_collection
from pipelines.base.records import SPLITS
from pipelines.base.signals import release_stop_signals
from pipelines.base.temporary_folder import require_temporary_folder
from pipelines.command_line.arguments import (
    OVERRIDES_HELP,
    CommandParser,
    Overrides,
    add_config_option,
    add_data_options,
    places_of,
)
from pipelines.data.dataset.index import build_index
from pipelines.preflight import find_data
from pipelines.spec.load import load_job


def main(argv: Sequence[str] | None = None) -> int:
    """Write pictures of some samples, print their paths, and return the exit code."""
    parser = CommandParser(
        prog="pyramidion data show",
        description="Write pictures with boxes as the model sees them; train images are augmented.",
        epilog=OVERRIDES_HELP,
    )
    add_config_option(parser)
    parser.add_argument("--split", choices=SPLITS, default="train", help="split to show (default: train)")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="number of pictures (default: 8)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: runs/<name>-data_show)")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="epoch of the augmentation (default: 0)")
    parser.add_argument(
        "--sheet", action="store_true", help="one picture instead: each train image under each operation by itself"
    )
    add_data_options(parser)

    def show() -> int:
        release_stop_signals()
        require_temporary_folder()
        options, overrides = parser.parse_command_line(sys.argv[1:] if argv is None else argv)
        return _show(options, overrides)

    return exit_code_of(show)


def _show(options: argparse.Namespace, overrides: Overrides) -> int:
    if options.count < 1:
        raise ConfigError(FieldProblem("--count", f"got {options.count}; write 1 or more"))
    if options.epoch < 0:
        raise ConfigError(FieldProblem("--epoch", f"got {options.epoch}; write 0 or more"))
    if options.sheet and options.split != "train":
        raise ConfigError(FieldProblem("--sheet", f"shows augmentation, which {options.split} lacks; drop --split"))
    job = load_job(options.config, overrides)
    index, report = build_index(job, find_data(job, places_of(options)))
    report.raise_errors()
    if not index.records.get(options.split):
        raise ConfigError(FieldProblem("--split", f"got {options.split!r}; the data has {', '.join(index.records)}"))

    # Imported late, so that errors of the document and the data are reported without loading torch.
    with no_garbage_collection():
        from pipelines.data.loading.datamodule import JobData
        from pipelines.data.loading.show import show_samples, show_sheet

    data = JobData(job.data, job.model.tasks, index, job.seed_everything)
    folder = options.out or Path("runs") / f"{job.name}-data_show"
    if options.sheet:
        print(show_sheet(data, options.count, folder, options.epoch))
        return 0
    for path in show_samples(data, options.split, options.count, folder, options.epoch):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
