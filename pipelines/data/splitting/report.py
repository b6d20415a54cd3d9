"""Report the result of a division as text for a terminal. Torch-free."""

from collections import Counter

from rich.markup import escape
from rich.table import Table

from pipelines.base.console import kept_text, plain_console
from pipelines.base.records import SPLITS, Split
from pipelines.data.splitting.division import Division, classes_in

WIDTH = 100


def render_division(division: Division) -> str:
    """Return how many images stayed together, and a table of images and labels by class and split."""
    console = plain_console(WIDTH)
    for line in _facts(division):
        console.print(line, markup=False, soft_wrap=True)
    console.print(_table(division))
    return kept_text(console)


def _facts(division: Division) -> list[str]:
    num_images = len(division.images)
    facts = [
        f"{num_images} images; {division.num_equal} files occur more than once, {division.num_near} images have a "
        f"near-duplicate",
        f"{division.num_groups} groups of several images stay together; the largest has {division.largest} images",
    ]
    if division.num_keys:
        facts[1] += f" ({division.num_keys} of them by --group-by)"
    if division.num_without_key:
        facts.append(f"{division.num_without_key} images have no group of --group-by, and are divided one by one")
    if division.num_kept:
        facts.append(f"{division.num_kept} images keep their split")
    if division.num_torn:
        facts.append(f"{division.num_torn} groups were in several splits; each is in one split now, test before val")
    if division.largest > 0.5 * num_images:
        facts.append("warning: more than half of the images are one group, so the shares cannot be met")
    return facts


def _table(division: Division) -> Table:
    images = Counter(division.splits)
    with_class: dict[tuple[str, str], Counter[Split]] = {}
    labels: dict[tuple[str, str], Counter[Split]] = {}
    for image, split in zip(division.images, division.splits, strict=True):
        for key, count in classes_in(image).items():
            with_class.setdefault(key, Counter())[split] += 1
            labels.setdefault(key, Counter())[split] += count
    table = Table(title="images, and objects in parentheses", title_justify="left")
    for column in ("task", "class", *SPLITS):
        table.add_column(column, justify="right" if column in SPLITS else "left", overflow="fold")
    table.add_row("", "all images", *(str(images[split]) for split in SPLITS))
    table.add_section()
    for key in sorted(labels):
        cells = [f"{with_class[key][split]} ({labels[key][split]})" for split in SPLITS]
        table.add_row(*map(escape, key), *cells)
    return table
