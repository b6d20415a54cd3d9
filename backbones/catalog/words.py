"""The catalogue in words: what the command prints and the page shows. Torch-free."""

import json

from backbones.catalog.facts import CPU_LIMIT_MACS, MEASURED_AT_PX, Facts, facts_of
from backbones.catalog.row import LIBRARIES, BackboneRow
from backbones.surgery.spec import OPERATIONS, SurgerySpec


def describe(row: BackboneRow) -> dict[str, str]:
    """Return what is known of a network, by what it is; what is not known is left out."""
    known = {
        "name": row.name,
        "family": row.family,
        "year": row.year and str(row.year),
        "paper": paper(row),
        "built by": f"{LIBRARIES[row.source]} ({row.id})",
        "options": ", ".join(f"{name}={value!r}" for name, value in row.kwargs.items() if name != "design"),
        "changed in it": surgery(row.surgery),
        "default weights": weights(row),
        **_measured(facts_of(row)),
        "surgery that it takes": ", ".join(operation for operation in OPERATIONS if operation in row.takes),
        "translation equivariant": row.family and yes(row.is_equivariant),
    }
    return {what: value for what, value in known.items() if value}


def _measured(facts: Facts | None) -> dict[str, str]:
    if facts is None:
        return {}
    limit = f"up to {CPU_LIMIT_MACS / 1e9:.0f} G and nothing deformable"
    return {
        "parameters": f"{facts.parameters:,} without the classifier",
        "channels": f"c3 {facts.channels[0]}, c4 {facts.channels[1]}, c5 {facts.channels[2]}",
        "multiply-accumulates": f"{gmacs(facts.macs)} G for an image of {MEASURED_AT_PX}x{MEASURED_AT_PX} pixels",
        "trains on a CPU": f"{yes(facts.trains_on_cpu)} ({limit})",
        "mean of its images": ", ".join(map(str, facts.mean)),
        "std of its images": ", ".join(map(str, facts.std)),
    }


def paper(row: BackboneRow) -> str | None:
    """Return where the network was published."""
    if row.paper is None:
        return None
    return f"doi {row.paper}" if row.paper.startswith("10.") else f"arXiv {row.paper}"


def weights(row: BackboneRow) -> str:
    """Return what its default weights may be used for, or what to write where it has none."""
    if not row.has_default_weights:
        return "none: write weights: none, or name a file"
    return row.weights_licence or "the library may have some; their licence is not recorded here"


def surgery(spec: SurgerySpec) -> str:
    """Return the operations as a document writes them; nothing where there are none."""
    asked = spec.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(asked) if asked else ""


def gmacs(macs: int) -> str:
    """Return multiply-accumulates in 10**9."""
    return f"{macs / 1e9:.2f}"


def millions(parameters: int) -> str:
    """Return parameters in 10**6, with three digits or so."""
    rounded = parameters / 1e6
    return f"{rounded:.2f}" if rounded < 10 else f"{rounded:.1f}" if rounded < 100 else f"{rounded:.0f}"


def yes(is_so: bool) -> str:
    """Return yes or no."""
    return "yes" if is_so else "no"
