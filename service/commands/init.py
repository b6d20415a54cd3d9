"""`pyramidion init`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipelines.base.links import FOLLOW_LINKS_OPTION, set_link_policy
from pipelines.data.drafting.commands import init_document
from pipelines.run_folder.layout import JOB_YAML


def run(arguments: Sequence[str]) -> int:
    """Write a document for a folder, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="pyramidion init",
        description="Look at a folder with images and labels, recognize the format, and write a commented document "
        "with which `pyramidion fit` trains. Label files are not changed.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="contains images and labels")
    parser.add_argument("--to", type=Path, default=Path(JOB_YAML), metavar="FILE", help=f"output (default: {JOB_YAML})")
    parser.add_argument(
        "--reading", type=int, metavar="NUMBER", help="choose another way to read the folder, by its printed number"
    )
    parser.add_argument("--split", action="store_true", help="run `pyramidion data split` if the data has no val split")
    parser.add_argument("--force", action="store_true", help="replace an existing document")
    parser.add_argument(FOLLOW_LINKS_OPTION, action="store_true", help="follow links that lead out of the folder")
    options = parser.parse_args(arguments[1:])
    set_link_policy(follow=options.follow_links)
    return init_document(options.folder, options.to, number=options.reading, divide=options.split, force=options.force)
