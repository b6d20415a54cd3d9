"""`pyramidion data check | convert | show | synth`; `show` needs torch, so it replaces this process."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.base.suggested_commands import next_steps, set_data_arguments
from pipelines.command_line.arguments import (
    OVERRIDES_HELP,
    CommandParser,
    add_config_option,
    add_data_options,
    places_of,
)
from pipelines.data.dataset.commands import check_data, convert_data, synthesize_data
from pipelines.data.synth.dataset import STYLES
from pipelines.formats.catalog import WRITERS
from pipelines.preflight import find_data
from pipelines.run_folder.layout import JOB_YAML
from pipelines.spec.load import assemble, load_job
from service.child_process import become


def run(arguments: Sequence[str]) -> int:
    """Return the exit code of a command; `data show` does not return."""
    command, *rest = arguments[1:]
    if command == "show":
        become("pipelines.show_cli", rest)
    return {"check": _check, "convert": _convert, "synth": _synth}[command](rest)


def _check(arguments: Sequence[str]) -> int:
    parser = CommandParser(
        prog="pyramidion data check",
        description="Check the label files and images of a job, print a report and write it as JSON. The exit code is "
        "78 if the data has errors, with which `fit` would not start.",
        epilog=OVERRIDES_HELP,
    )
    add_config_option(parser)
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="output file (default: runs/<name>-data_report.json)"
    )
    add_data_options(parser)
    options, overrides = parser.parse_command_line(arguments)
    job = load_job(options.config, overrides)
    report_path = options.report or Path("runs") / f"{job.name}-data_report.json"
    code = check_data(job, find_data(job, places_of(options)), report_path)
    if code == 0:
        print(next_steps("data show", "fit"))
    return code


def _convert(arguments: Sequence[str]) -> int:
    parser = CommandParser(
        prog="pyramidion data convert",
        description="Write the images and boxes of a job in another label format, with a job document for the result. "
        "Boxes are clipped and classes renamed as for training. Labels that the format cannot express are counted.",
        epilog=OVERRIDES_HELP,
    )
    add_config_option(parser)
    parser.add_argument("--to", required=True, choices=tuple(WRITERS), help="format of the label files")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new or empty folder")
    parser.add_argument(
        "--task", metavar="NAME", help="task whose boxes are written (default: the only one with boxes)"
    )
    parser.add_argument("--link", action="store_true", help="make hard links to the images instead of copies")
    add_data_options(parser)
    options, overrides = parser.parse_command_line(arguments)
    job = load_job(options.config, overrides)
    given = assemble(options.config, overrides)
    root = find_data(job, places_of(options))
    code = convert_data(job, root, options.out, options.to, options.task, link=options.link, given=given)
    out = options.out.resolve()
    set_data_arguments(["--config", str(options.out / JOB_YAML), "--data-root", str(out.parent)])
    print(next_steps("data check", "fit"))
    return code


def _synth(arguments: Sequence[str]) -> int:
    parser = CommandParser(
        prog="pyramidion data synth",
        description="Write the demo data set: images, COCO files with identities, and a CSV file with scenes.",
    )
    parser.add_argument("folder", type=Path, help="a new or empty folder")
    parser.add_argument(
        "--style",
        choices=tuple(STYLES),
        default="shapes",
        help="shapes: a few patterned discs, squares, triangles and rings on noise (default). grains: crowds of small "
        "grains, beans and sticks on sand, soil or moss",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    parser.add_argument("--train", type=int, default=400, metavar="N", help="number of training images (default: 400)")
    parser.add_argument("--val", type=int, default=60, metavar="N", help="number of validation images (default: 60)")
    parser.add_argument("--test", type=int, default=60, metavar="N", help="number of test images (default: 60)")
    parser.add_argument("--image-size", type=int, default=160, metavar="PX", help="longer side (default: 160)")
    options = parser.parse_args(arguments)
    return synthesize_data(
        options.folder,
        style=options.style,
        seed=options.seed,
        num_train=options.train,
        num_val=options.val,
        num_test=options.test,
        image_size=options.image_size,
    )
