"""Explain the best prediction of each image by every method: where the maps lie, what they cost, and pictures.

    python -m tests.bench.explanations --run-dir RUN --images DIR --task TASK [--num 8] [--sheet FILE.jpg]

Figures are medians over the images; a map of which nothing is positive counts as 0. One thread.
"""

import argparse
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from pipelines.base.pictures import draw_sheet
from pipelines.command_line.predicted_images import find_images
from pipelines.explanations.chosen_row import ExplanationUnusable
from pipelines.explanations.explain import Explanation, explain
from pipelines.explanations.picture import draw_explanation
from pipelines.inference.predictor import Predictor
from pipelines.run_folder.layout import RunDir
from pipelines.spec.explanation import METHODS, ExplanationRequest

CELL_PX = 200
SHOWN = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--class", dest="label")
    parser.add_argument("--num", type=int, default=8)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.from_exported(RunDir.of(options.run_dir).model, device="cpu")
    found: list[tuple[Path, list[Explanation]]] = []
    for path in find_images([options.images])[0]:
        sample = predictor.prepare(path)
        requests = [ExplanationRequest(task=options.task, label=options.label, method=method) for method in METHODS]
        try:
            found.append((path, [explain(predictor, sample, request) for request in requests]))
        except ExplanationUnusable as error:
            print(f"{path.name}: {error}")
        if len(found) == options.num:
            break
    print("| method | images | mass in the box | box in the image | passes | seconds |\n|---|---|---|---|---|---|")
    for column, method in enumerate(METHODS):
        facts = [explanations[column].facts for _, explanations in found]
        mass, share = (
            median([one or 0.0 for one in ones])
            for ones in zip(*((f.mass_in_box, f.box_share) for f in facts), strict=True)
        )
        passes, seconds = (median(ones) for ones in zip(*((f.num_passes, f.seconds) for f in facts), strict=True))
        print(f"| {method} | {len(facts)} | {mass:.2f} | {share:.2f} | {passes:.0f} | {seconds:.2f} |")
    if options.sheet is not None:
        rows = [_pictures(predictor, path, explanations) for path, explanations in found[:SHOWN]]
        draw_sheet(["image", *METHODS], rows, CELL_PX).save(options.sheet, quality=80)


def _pictures(predictor: Predictor, path: Path, explanations: list[Explanation]) -> list[Image.Image]:
    image = predictor.decode(path)
    side = (2 * CELL_PX, round(2 * CELL_PX * image.height / image.width))
    return [image.resize(side)] + [draw_explanation(image.resize(side), one) for one in explanations]


if __name__ == "__main__":
    main()
