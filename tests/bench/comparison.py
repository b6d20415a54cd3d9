"""Train recipe:bccd with several settings of one part, and print a table: `augmentation` or `heads`.

All runs have equal steps. Finished runs below runs/bench are reused, and a stopped run is resumed.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from pipelines.spec.augment_presets import PRESETS
from tests.bench.runs import BENCH_DIR, Figures, Outcome, Run, execute_all, find_bccd, hardware, report, turned_table

LEVELS = "levels: [p3, p4, p5], score_threshold: 0.02"
COMPARISONS: dict[str, dict[str, tuple[str, ...]]] = {
    "augmentation": {"recipe": (), **{preset: (f"--data.augment={preset}",) for preset in PRESETS}},
    "heads": {
        "fcos": (),
        "retinanet": (
            f"--model.tasks={{cells: {{head: retinanet, {LEVELS}, num_convs: 2, norm: gn, anchor_scale: 2.5, "
            "candidates_per_level: 400}}",
        ),
        "faster_rcnn": ("--model.tasks={cells: {head: faster_rcnn}}",),
    },
}
"""By comparison: the options of each row, in addition to recipe:bccd; no options are the recipe's own setting."""


def training(comparison: str, setting: str, seed: int) -> Run:
    """Return the training of one row of a comparison."""
    own = COMPARISONS[comparison][setting]
    return Run(f"{comparison}-{setting}-{seed}", ("--config=recipe:bccd", *own, f"--seed_everything={seed}"))


def figures(outcome: Outcome) -> Figures:
    """Return the figures of a run on test."""
    coco: dict[str, Any] = outcome.result["tasks"]["cells"]["coco"]
    return {"AP50": coco["AP50"], "AP": coco["AP"], "wall time (s)": outcome.wall_s}


def main() -> None:
    """Run the missing trainings, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparison", choices=COMPARISONS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time, each with its share of cores")
    parser.add_argument("--out", type=Path, default=BENCH_DIR)
    options = parser.parse_args()
    os.environ["PYRAMIDION_DATA_ROOTS"] = str(find_bccd().parent)
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    settings = COMPARISONS[options.comparison]
    runs = [training(options.comparison, setting, seed) for seed in options.seeds for setting in settings]
    outcomes = dict(zip(runs, execute_all(runs, out, options.jobs), strict=True))
    rows = {
        setting: [figures(outcomes[training(options.comparison, setting, seed)]) for seed in options.seeds]
        for setting in settings
    }
    seeds = ", ".join(map(str, options.seeds))
    parts = [f"{hardware()}; mean (lowest to highest) of the seeds {seeds}.\n", turned_table(options.comparison, rows)]
    report(parts, out / f"{options.comparison}.md")


if __name__ == "__main__":
    main()
