"""Train recipe:bccd with each preset of `data.augment` and with the recipe's own setting, and print a table.

All runs have equal steps. Finished runs below runs/bench are reused, and a stopped run is resumed.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from pipelines.spec.augment_presets import PRESETS
from tests.bench.runs import BENCH_DIR, Figures, Outcome, Run, execute, find_bccd, hardware, report, turned_table

RECIPE = "recipe"
"""The row of the recipe's own setting."""


def training(setting: str, seed: int) -> Run:
    """Return the training with a preset, or with the recipe's own setting."""
    options = ("--config=recipe:bccd", f"--seed_everything={seed}")
    own: tuple[str, ...] = () if setting == RECIPE else (f"--data.augment={setting}",)
    return Run(f"augment-{setting}-{seed}", (*options, *own))


def figures(outcome: Outcome) -> Figures:
    """Return the figures of a run on test."""
    coco: dict[str, Any] = outcome.result["tasks"]["cells"]["coco"]
    return {"AP50": coco["AP50"], "AP": coco["AP"], "wall time (s)": outcome.wall_s}


def main() -> None:
    """Run the missing trainings one after the other, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    settings = (RECIPE, *PRESETS)
    parser.add_argument("--settings", nargs="+", default=settings, choices=settings)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=BENCH_DIR)
    options = parser.parse_args()
    os.environ["PYRAMIDION_DATA_ROOTS"] = str(find_bccd().parent)
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Figures]] = {setting: [] for setting in options.settings}
    for seed in options.seeds:
        for setting in options.settings:
            rows[setting].append(figures(execute(training(setting, seed), out)))
    seeds = ", ".join(map(str, options.seeds))
    parts = [f"{hardware()}; mean (lowest to highest) of the seeds {seeds}.\n", turned_table("data.augment", rows)]
    report(parts, out / "augmentation.md")


if __name__ == "__main__":
    main()
