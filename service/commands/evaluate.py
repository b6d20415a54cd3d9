"""`pyramidion eval`: score a file of detections without a model."""

import json
from pathlib import Path

import click

from pipelines.base.console import terminal_console
from pipelines.base.errors import ConfigError
from pipelines.evaluation.coco_files import score_files
from pipelines.evaluation.tables import print_results

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--predictions", type=FILE, required=True, metavar="FILE", help="COCO results list of any program.")
@click.option("--annotations", type=FILE, required=True, metavar="FILE", help="COCO instances file with the labels.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, also for problems.")
def evaluate(*, predictions: Path, annotations: Path, as_json: bool) -> int:
    """Score detections of any program against labels: COCO's numbers, those of each class, and what is wrong.

    The numbers have the names of result.json. Every image of the annotations is scored.
    """
    try:
        result = score_files(predictions, annotations)
    except ConfigError as error:
        if as_json:
            print(error.to_json())
        raise
    if as_json:
        print(json.dumps(result, allow_nan=False, ensure_ascii=False))
        return 0
    print_results(annotations.name, {predictions.name: result}, terminal_console())
    return 0
