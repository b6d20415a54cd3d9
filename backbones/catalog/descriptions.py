"""Text about catalog rows and the design space, for the command line and the documentation page. Torch-free."""

import json
import re
from collections.abc import Mapping
from typing import Any

from backbones.catalog.facts import CPU_LIMIT_MACS, MEASURED_AT_PX, Facts, facts_of, recorded_designs
from backbones.catalog.licenses import lack_of_weights, license_of, license_problem
from backbones.catalog.row import LIBRARIES, BackboneRow
from backbones.spec.design_presets import PRESETS
from backbones.spec.roadmap import ROADMAP
from backbones.spec.surgery import OPERATIONS, SurgerySpec
from backbones.weights_sources.base import WeightsSource
from backbones.weights_sources.defaults import default_sources


def describe(row: BackboneRow) -> dict[str, str]:
    """Return the known properties of a network as label and text; unknown ones are omitted."""
    known = {
        "name": row.name,
        "family": row.family,
        "year": row.year and str(row.year),
        "paper": paper(row),
        "built by": f"{LIBRARIES[row.source]} ({row.id})",
        "options": ", ".join(f"{name}={value!r}" for name, value in row.kwargs.items() if name != "design"),
        "surgery applied": surgery(row.surgery),
        "default weights": lack_of_weights(row) or license_problem(row) or weights(row),
        "weights from": "; ".join(map(_place, default_sources(row))),
        **_measured(facts_of(row)),
        "surgery supported": ", ".join(operation for operation in OPERATIONS if operation in row.takes),
        "translation equivariant": row.family and yes(row.is_equivariant),
    }
    return {what: value for what, value in known.items() if value}


def _place(source: WeightsSource) -> str:
    path = source.path()
    checksum = f", SHA-256 {source.sha256[:16]}" if source.sha256 else ""
    return f"{source.origin}{checksum} ({f'here: {path}' if path else 'not on this machine'})"


def _measured(facts: Facts | None) -> dict[str, str]:
    if facts is None:
        return {}
    limit = f"at most {CPU_LIMIT_MACS / 1e9:.0f} G, and no deformable convolutions"
    return {
        "parameters": f"{facts.parameters:,} without the classifier",
        "channels": f"c3 {facts.channels[0]}, c4 {facts.channels[1]}, c5 {facts.channels[2]}",
        "multiply-accumulates": f"{gmacs(facts.macs)} G for an image of {MEASURED_AT_PX}x{MEASURED_AT_PX} pixels",
        "trains on a CPU": f"{yes(facts.trains_on_cpu)} ({limit})",
        "image mean": ", ".join(map(str, facts.mean)),
        "image std": ", ".join(map(str, facts.std)),
    }


def paper(row: BackboneRow) -> str | None:
    """Return the identifier of the network's paper, or None."""
    if row.paper is None:
        return None
    return f"doi {row.paper}" if row.paper.startswith("10.") else f"arXiv {row.paper}"


def weights(row: BackboneRow) -> str:
    """Return the license of the default weights, or "none" without such weights."""
    if lack_of_weights(row):
        return "none"
    license = license_of(row) or "of an unknown license"
    return f"{license}, with accept_license" if license_problem(row) else license


def surgery(spec: SurgerySpec) -> str:
    """Return the operations as they are written in a document, or an empty string if there are none."""
    return fields(spec.model_dump(mode="json", exclude_defaults=True))


def fields(values: Mapping[str, Any]) -> str:
    """Return fields as they are written in a document, on one line, with long fractions shortened."""
    text = ", ".join(f"{name}: {json.dumps(value)}" for name, value in values.items()).replace('"', "")
    return re.sub(r"\d\.\d{4,}", lambda fraction: f"{float(fraction[0]):.3g}", text)


def roadmap() -> list[tuple[str, ...]]:
    """Return a table of the roadmap from ResNet-50 to ConvNeXt-T: steps, changes, measured and published cost."""
    costs = recorded_designs().roadmap
    rows = [
        (
            step.name,
            fields(step.change),
            gmacs(costs[step.name]),
            "" if step.paper_gmacs is None else f"{step.paper_gmacs}",
        )
        for step in ROADMAP
    ]
    return [("step", "what changes", "GMACs", "in the paper"), *rows]


def presets() -> list[tuple[str, ...]]:
    """Return a table of the presets of the design space."""
    measured = recorded_designs().presets
    rows = []
    for name, values in PRESETS.items():
        facts = measured[name]
        channels = ", ".join(map(str, facts.channels))
        rows.append((name, millions(facts.parameters), gmacs(facts.macs), channels, fields(values)))
    return [("preset", "parameters, M", "GMACs", "c3, c4, c5", "fields"), *rows]


def gmacs(macs: int) -> str:
    """Return multiply-accumulates in 10**9."""
    return f"{macs / 1e9:.2f}"


def millions(parameters: int) -> str:
    """Return parameters in 10**6, with about three significant digits."""
    rounded = parameters / 1e6
    return f"{rounded:.2f}" if rounded < 10 else f"{rounded:.1f}" if rounded < 100 else f"{rounded:.0f}"


def yes(is_so: bool) -> str:
    """Return "yes" or "no"."""
    return "yes" if is_so else "no"
