"""The command lines of `fit | check | plan | lr-find | validate | test | predict`, before torch is imported."""

import argparse

from pipelines.command_line.arguments import OVERRIDES_HELP, CommandParser, add_config_option, add_data_options
from pipelines.command_line.evaluation_options import add_evaluation_options

COMMANDS = {
    "fit": "Train, keep the checkpoint that is best on val, score it on test, register it.",
    "check": "Check a job: report its data, its network, and which stages train in which epochs.",
    "plan": "Print each parameter group: its rate, its weight decay, and when it trains; estimate time and memory.",
    "lr-find": "Suggest a learning rate from the losses of a short training in which it grows; the job is not started.",
    "validate": "Score a checkpoint of a run on val.",
    "test": "Score a checkpoint of a run on test.",
    "predict": "Predict images with a checkpoint of a run.",
}
"""The commands, with their descriptions."""

PREVIEWS = ("check", "plan", "lr-find")
"""The commands that read a document and start no run."""

LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")
"""The commands that LightningCLI runs, as its subcommands."""


def parser_of(command: str) -> CommandParser:
    """Return the parser of one command."""
    parser = CommandParser(
        prog=f"pyramidion {command}",
        description=COMMANDS[command],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, command)
    if command == "fit":
        parser.usage = "pyramidion fit --config FILE [--config FILE ...] [OPTION ...] [--FIELD VALUE ...]"
        parser.add_document_fields()
    elif command in PREVIEWS:
        parser.epilog = f"{OVERRIDES_HELP}\n(`pyramidion fit --help` lists them)"
    elif command != "predict":
        parser.epilog = "Fields of the document's trainer section are options by dotted name: --trainer.devices 1"
    return parser


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the options of a command that are not fields of the document.

    Args:
        parser: argparse's, or jsonargparse's.
        command: one of `COMMANDS`.
    """
    places = add_data_options(parser)
    if command in ("fit", *PREVIEWS):
        add_config_option(parser)
        parser.add_argument("--budget", metavar="DURATION", help="wall time of the run, such as 8m (trainer.budget)")
        places.add_argument(
            "--weights-root", action="append", default=[], metavar="DIR", help="contains weights; repeatable"
        )
    if command == "fit":
        parser.add_argument("--run-dir", metavar="DIR", help="folder of the run (default: runs/<name>-<time>)")
        parser.add_argument("--print-config", action="store_true", help="print the complete document and exit")
    elif command in PREVIEWS:
        parser.add_argument("--json", action="store_true", help="print one JSON document, also for problems")
        if command == "plan":
            parser.add_argument(
                "--no-measure",
                action="store_true",
                help="do not run the steps from which time and memory are estimated",
            )
        elif command == "lr-find":
            parser.add_argument("--steps", type=int, default=100, metavar="N", help="optimizer steps (default: 100)")
            parser.add_argument(
                "--out", default="lr_find.png", metavar="FILE", help="picture of the losses (default: lr_find.png)"
            )
    else:
        _add_options_of_a_saved_run(parser, command)


def _add_options_of_a_saved_run(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument("--run-dir", required=True, metavar="DIR", help="folder of a run that has a checkpoint")
    parser.add_argument(
        "--weights",
        choices=("best", "last", "averaged"),
        default="best",
        help="best: best on val (default); last: the last checkpoint as trained; averaged: the moving average in it",
    )
    if command != "predict":
        add_evaluation_options(parser)
    else:
        parser.add_argument("image", nargs="*", default=[], metavar="IMAGE", help="image file, or folder of images")
        # The images of earlier versions, which were no positional arguments.
        parser.add_argument("--images", nargs="+", default=[], metavar="IMAGE", help=argparse.SUPPRESS)
        parser.add_argument("--split", choices=("train", "val", "test"), help="predict a split of the run's data")
        parser.add_argument(
            "--threshold",
            metavar="best|NUMBER",
            help="predict only what has a score above it; best: the threshold of each class with the highest F1 on val",
        )
        parser.add_argument(
            "--class",
            dest="classes",
            action="append",
            metavar="NAME",
            help="predict only this class; repeatable",
        )
        parser.add_argument(
            "--draw",
            nargs="?",
            const="",
            metavar="DIR",
            help="write pictures with boxes here (default: pictures/ in the folder of the predictions)",
        )
