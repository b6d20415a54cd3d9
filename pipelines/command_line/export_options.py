"""The command lines of `export` and `bench-model`, before torch is imported."""

from typing import get_args

from pipelines.command_line.arguments import CommandParser, add_data_options
from pipelines.spec.exported_variant import CALIBRATION_IMAGES, RUNTIME_OF, Nms, VariantPrecision

ROUNDS = 30


def export_parser() -> CommandParser:
    """Return the parser of `export`."""
    parser = CommandParser(
        prog="pyramidion export",
        description="Write the model of a run for another runtime, and evaluate it there on val. The exit code is 1 if "
        "it is not as good as in torch.",
    )
    _add_run_dir(parser)
    parser.add_argument("--to", required=True, choices=tuple(RUNTIME_OF), help="the format of the graph")
    parser.add_argument(
        "--precision",
        choices=get_args(VariantPrecision),
        default="fp32",
        help="fp32 (default); bf16: on processors that have it, for openvino; int8: quantized after training",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="by how much the main metric of each task may fall on val (default: 0.005, and 0.01 for int8)",
    )
    parser.add_argument(
        "--nms",
        choices=get_args(Nms),
        default="outside",
        help="where overlapping boxes are dropped: after the graph (default), or by it",
    )
    parser.add_argument(
        "--calibration-images",
        type=int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help=f"with int8: images of train that the scales are measured on (default: {CALIBRATION_IMAGES})",
    )
    parser.add_argument(
        "--accuracy-aware",
        action="store_true",
        help="with int8 for openvino: keep the layers in float32 that cost most, in many passes over val",
    )
    parser.add_argument("--test", action="store_true", help="score test, too; the decision is that of val")
    parser.add_argument("--json", action="store_true", help="print one JSON document, also for problems")
    add_data_options(parser)
    return parser


def bench_parser() -> CommandParser:
    """Return the parser of `bench-model`."""
    parser = CommandParser(
        prog="pyramidion bench-model",
        description="Measure the model of a run in torch and in all of its exports, in turns.",
    )
    _add_run_dir(parser)
    parser.add_argument("--batch", type=int, action="append", metavar="N", help="images at once; repeatable (1 and 8)")
    parser.add_argument(
        "--threads", type=int, action="append", metavar="N", help="threads of a run; repeatable (default: all cores)"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"measurements (default: {ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print one JSON document, also for problems")
    return parser


def _add_run_dir(parser: CommandParser) -> None:
    parser.add_argument("--run-dir", required=True, metavar="DIR", help="folder of a finished run")


PARSERS = {"export": export_parser, "bench-model": bench_parser}
"""The parser of each command."""
