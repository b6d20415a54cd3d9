"""The README.md beside an exported graph: what the model is, how good it is, and how to run it. Torch-free."""

import re

from pipelines.base.printable import printable, shortened
from pipelines.spec.export_summary import metric_text
from pipelines.spec.exported_variant import ExportedVariant
from pipelines.tasks.kinds import kind_of

MAX_NAMES = 50
"""Number of classes that are listed."""
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#|~&]")


def model_card(variant: ExportedVariant, name: str) -> str:
    """Return the text of the card of an export of the job `name`."""
    parts = [
        f"# {name}: {variant.runtime}, {variant.precision}\n\n{_status(variant)}",
        "## How to run it\n\n"
        f"    pip install {variant.runtime} numpy pillow\n    python example.py IMAGE\n\n"
        f"`{variant.graph}` takes RGB images as uint8 of shape (batch, 3, height, width); normalization is inside. "
        f"Scale an image to fit into {_size(variant)} pixels, and pad it with 0 at the right and the bottom to "
        f"{_padding(variant)}. `model.json` describes everything else. To use the model in another program, copy "
        "`inference.py` and `model.json` into it, and take the code of `example.py`.",
        "## Tasks\n\n" + "\n".join(_task_line(variant, task) for task in sorted(variant.model.tasks)),
        "## Quality\n\n" + _metrics(variant),
        "## Origin\n\n" + _origin(variant),
    ]
    return "\n\n".join(parts) + "\n"


def _status(variant: ExportedVariant) -> str:
    if variant.servable:
        return "This export passed its checks, and may be served."
    return f"**Do not serve this export**: {variant.reason}."


def _size(variant: ExportedVariant) -> str:
    size = variant.image_size
    return f"{size} x {size}" if isinstance(size, int) else f"{size[1]} x {size[0]} (width x height)"


def _padding(variant: ExportedVariant) -> str:
    if variant.sizes_hw is None:
        return f"multiples of {variant.multiple_of}"
    return "one of the sizes " + ", ".join(f"{width} x {height}" for height, width in variant.sizes_hw)


def _task_line(variant: ExportedVariant, task: str) -> str:
    spec = variant.model.tasks[task]
    if kind_of(spec).learns_identities:
        return f"- `{task}`: {kind_of(spec).name}"
    names = [_plain(category.name) for category in variant.categories[task]]
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"- `{task}`: {kind_of(spec).name} of {', '.join(names[:MAX_NAMES])}{more}"


def _plain(name: str) -> str:
    """Return a name as Markdown that shows it as it is, in one line."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(shortened(name)))


def _metrics(variant: ExportedVariant) -> str:
    if not variant.metrics:
        return "It was not evaluated."
    rows = ["| metric | torch float32 | this export |", "|---|---|---|"]
    for name, pair in variant.main_metrics.items():
        rows.append(f"| {name} | {metric_text(pair.torch)} | {metric_text(pair.variant)} |")
    if (latency := variant.latency) is not None:
        height, width = latency.size_hw
        rows.append(f"| ms for one image of {width} x {height} | {latency.torch_ms:.1f} | {latency.runtime_ms:.1f} |")
        rows.append(f"\nTimes are medians on {latency.cpu} with {latency.threads_text}.")
    return "\n".join(rows)


def _origin(variant: ExportedVariant) -> str:
    weights = variant.weights
    if weights.weights == "none":
        text = f"The backbone is {weights.backbone}; training started from random weights."
    else:
        license_text = weights.license or "not recorded"
        text = (
            f"The backbone is {weights.backbone}. Training started from its weights `{weights.weights}`, whose "
            f"license is {license_text}; it applies to this export, too."
        )
    prints = [f"{split} `{value[:16]}`" for split, value in sorted(variant.data_fingerprints.items())]
    return f"{text} Fingerprints of the data: {', '.join(prints) or 'not recorded'}."
