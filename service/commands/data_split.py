"""`pyramidion data split`."""

import argparse
from collections.abc import Sequence

from pipelines.base.suggested_commands import next_steps
from pipelines.command_line.arguments import (
    OVERRIDES_HELP,
    CommandParser,
    add_config_option,
    add_data_options,
    places_of,
)
from pipelines.data.splitting.commands import split_data
from pipelines.data.splitting.division import DEFAULT_SHARE, SplitSettings
from pipelines.data.splitting.groups import by_column, by_folder, by_pattern
from pipelines.data.splitting.near_duplicates import DEFAULT_DISTANCE, MAX_DISTANCE
from pipelines.preflight import find_data
from pipelines.spec.load import load_job


def run(arguments: Sequence[str]) -> int:
    """Divide the data of a job, and return the exit code."""
    options, overrides = _parser().parse_command_line(arguments[2:])
    job = load_job(options.config, overrides)
    root = find_data(job, places_of(options))
    group_by = None
    if options.group_by is not None:
        group_by = by_pattern(options.group_by)
    elif options.group_by_folder:
        group_by = by_folder
    elif options.group_by_column:
        group_by = by_column(root, *options.group_by_column)
    settings = SplitSettings(
        shares={"val": options.val, "test": options.test},
        seed=options.seed,
        group_by=group_by,
        near=options.near,
        keep=options.keep,
        ignore_disk=options.all,
    )
    code = split_data(
        job,
        root,
        settings,
        sources=options.source,
        split_file=options.split_file,
        force=options.force,
        configs=options.config,
        edit=options.write,
    )
    print(next_steps("data check", "fit"))
    return code


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="pyramidion data split",
        description="Divide the images of a job into train, val and test, and write the result as a CSV file below the "
        "data root. Label files are not changed. Classes get equal shares in all splits (iterative stratification), "
        "and equal files and near-duplicates stay in one split. A split that exists on disk is kept.",
        epilog=OVERRIDES_HELP,
    )
    add_config_option(parser)
    share = f"default: the split on disk, or {DEFAULT_SHARE}; with --keep as in the split file"
    parser.add_argument("--val", type=float, metavar="SHARE", help=f"share of all images for val ({share})")
    parser.add_argument("--test", type=float, metavar="SHARE", help=f"share for test; 0: no test split ({share})")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    groups = parser.add_mutually_exclusive_group()
    groups.add_argument(
        "--group-by", metavar="REGEX", help="images whose file names match in the same text stay in one split: '^[^_]+'"
    )
    groups.add_argument("--group-by-folder", action="store_true", help="images of one folder stay in one split")
    groups.add_argument(
        "--group-by-column",
        nargs=2,
        metavar=("FILE", "COLUMN"),
        help="images with one value in a column of a CSV file (with file_name) stay in one split",
    )
    parser.add_argument(
        "--near",
        type=_distance,
        default=DEFAULT_DISTANCE,
        metavar="BITS",
        help=f"largest difference of the 64-bit hashes of near-duplicates, 0 to {MAX_DISTANCE}, or none: only equal "
        f"files stay together (default: {DEFAULT_DISTANCE})",
    )
    parser.add_argument("--all", action="store_true", help="divide all images anew, whatever their split on disk")
    parser.add_argument("--source", action="append", default=[], metavar="NAME", help="repeatable (default: all)")
    parser.add_argument("--split-file", metavar="FILE", help="output, below the data root (default: splits.csv)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--keep", action="store_true", help="images in the split file keep their split")
    existing.add_argument("--force", action="store_true", help="replace the split file")
    parser.add_argument("--write", action="store_true", help="add split_file to the document")
    add_data_options(parser)
    return parser


def _distance(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or int(text) > MAX_DISTANCE:
        raise argparse.ArgumentTypeError(f"got {text!r}; write a number from 0 to {MAX_DISTANCE}, or none")
    return int(text)
