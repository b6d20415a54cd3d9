"""Implementation of `pyramidion data check | convert | synth`. Torch-free."""

from pathlib import Path

from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.data.dataset.convert import convert
from pipelines.data.dataset.index import build_index
from pipelines.data.dataset.new_folder import new_folder
from pipelines.data.synth.dataset import write_synthetic
from pipelines.run_folder.layout import JOB_YAML
from pipelines.spec.job import JobSpec
from pipelines.spec.load import Document


def check_data(job: JobSpec, root: Path, report_path: Path) -> int:
    """Print the data report and write it to `report_path` as JSON; return 0, or 78 if a run would not start.

    Raises:
        DataError: `root` is not a folder.
        ConfigError: `report_path` cannot be written.
    """
    # rich is for terminals: the API process imports this module, but never prints.
    from pipelines.data.dataset.checks.text import render_report

    _, report = build_index(job, root)
    print(render_report(report), end="")
    try:
        report.write(report_path)
    except OSError as error:
        message = f"{report_path} cannot be written ({error.strerror}); choose another file"
        raise ConfigError(FieldProblem("--report", message)) from error
    print(f"Complete report: {report_path}")
    if report.remedy:
        print(report.remedy)
    return DataError.exit_code if report.errors else 0


def convert_data(
    job: JobSpec,
    root: Path,
    out: Path,
    to: str,
    task: str | None = None,
    *,
    link: bool = False,
    given: Document | None = None,
) -> int:
    """Write the data in another format (see `convert`), print what was written and what is lost, and return 0.

    Raises:
        ConfigError: as `convert`.
    """
    conversion = convert(job, root, out, to, task, link=link, given=given)
    images = ", ".join(f"{number} {split}" for split, number in conversion.num_images.items()) or "no"
    print(f"{images} images with {conversion.num_boxes} boxes, and a job document: {out / JOB_YAML}")
    for what, number in sorted(conversion.lost.items()):
        print(f"Not written in the format {to}: {number} {what}")
    return 0


def synthesize_data(
    root: Path,
    *,
    style: str = "shapes",
    seed: int = 0,
    num_train: int = 400,
    num_val: int = 60,
    num_test: int = 60,
    image_size: int = 160,
) -> int:
    """Write the demo data to `root` (see `write_synthetic`), print a summary, and return 0.

    Raises:
        ConfigError: as `write_synthetic` and `new_folder`; then nothing has been written.
    """
    with new_folder(root, "folder", last="annotations") as folder:
        write_synthetic(
            folder,
            style=style,
            seed=seed,
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            image_size=image_size,
        )
    print(f"{num_train} train, {num_val} val and {num_test} test images with labels for three tasks: {root}")
    return 0
