"""The sources of pretrained weights by the names that documents use, and whether this machine has one. Torch-free."""

from backbones.catalog.licenses import RANDOM_OR_FILE, lack_of_weights, license_of
from backbones.catalog.lookup import known_files, known_networks, resolve
from backbones.catalog.row import BackboneRow
from backbones.catalog.rows import CATALOG
from backbones.weights_sources.base import WeightsSource
from backbones.weights_sources.hub_file import HubFile
from backbones.weights_sources.rows import BACKBONES, DETECTORS
from backbones.weights_sources.url_file import UrlFile

DETECTOR_PREFIX = "tv:"
"""Precedes the name of a detector in `model.init_from`."""
HUB_OWNER = "timm"
"""Owner of the repositories of timm's weights, which are named like the network with its tag."""


def default_sources(row: BackboneRow) -> tuple[WeightsSource, ...]:
    """Return the sources of the default weights of a row, best first; empty if it has no default weights."""
    if row.name in BACKBONES:
        return BACKBONES[row.name]
    library = library_source(row)
    return () if library is None else (library,)


def library_source(row: BackboneRow) -> WeightsSource | None:
    """Return the source from which the row's library loads its default weights; None without such weights."""
    if lack_of_weights(row):
        return None
    license, files = license_of(row), known_files()
    if row.source == "tv":
        return UrlFile(files["tv"][row.id], license)
    name, _, tag = row.id.partition(".")
    tag = tag or next(tags[0] for tags in known_networks()["timm"][name].values())
    place = files["timm"].get(f"{name}.{tag}", f"{HUB_OWNER}/{name}.{tag}")
    return UrlFile(place, license) if "://" in place else HubFile(place, license)


def named_sources() -> dict[str, tuple[WeightsSource, ...]]:
    """Return the sources of all backbones in the catalog that have default weights, and of all detectors."""
    backbones = {name: sources for name, row in CATALOG.items() if (sources := default_sources(row))}
    return backbones | {f"{DETECTOR_PREFIX}{name}": (file,) for name, file in DETECTORS.items()}


def sources_of(name: str) -> tuple[WeightsSource, ...]:
    """Return the sources of a backbone or a detector, by the name that documents use.

    Raises:
        ValueError: the name is unknown, or has no default weights.
    """
    if (detector := DETECTORS.get(name.removeprefix(DETECTOR_PREFIX))) and name.startswith(DETECTOR_PREFIX):
        return (detector,)
    row = resolve(name)
    if lack := lack_of_weights(row):
        raise ValueError(lack)
    return default_sources(row)


def usable_source(row: BackboneRow) -> WeightsSource:
    """Return the source that a run on this machine uses: one that is here, otherwise one that can be downloaded.

    Raises:
        ValueError: there is none; the message says how to get one.
    """
    if lack := lack_of_weights(row):
        raise ValueError(lack)
    sources = default_sources(row)
    problems = []
    for source in sources:
        if source.path():
            return source
    for source in sources:
        problem = source.problem()
        if problem is None:
            return source
        problems.append(problem)
    raise ValueError(
        f"the default weights of backbone {row.name!r} are not on this machine: {'; '.join(problems)}; get them with "
        f"`pyramidion weights fetch {row.name} --to DIR` where there is a network, or {RANDOM_OR_FILE}"
    )


def default_weights_problem(row: BackboneRow) -> str | None:
    """Return a message that the default weights of `row` are not available, with a remedy; None if they are."""
    try:
        usable_source(row)
    except ValueError as error:
        return f"weights: {error}"
    return None
