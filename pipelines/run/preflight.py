"""What can be known to be wrong before anything is started, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.catalog import resolve
from pipelines.data.formats.content import below
from pipelines.data.roots import find_root
from pipelines.errors import ConfigError, Problem
from pipelines.evaluation.metric_names import selection
from pipelines.spec.job import JobSpec

WEIGHTS_ROOTS_VARIABLE = "PYRAMIDION_WEIGHTS_ROOTS"


@dataclass(frozen=True)
class Places:
    """Where names of the document are looked up.

    `data_root` is `--data.root` of the command line: any folder, instead of `data.root` below `data_roots`. `are_told`
    says whether the command line names one of both.
    """

    data_roots: Sequence[Path]
    weights_roots: Sequence[Path]
    data_root: Path | None = None
    are_told: bool = False


@dataclass(frozen=True)
class Inputs:
    """What the document's names stand for here: the data's folder; `default`, `none` or the path of a weights file."""

    data: Path
    weights: str


def preflight(job: JobSpec, places: Places) -> Inputs:
    """Return what the document's names stand for; raises ConfigError with all problems at once."""
    problems: list[Problem] = []
    inputs: dict[str, Path | str] = {}

    def attempt(name: str, check: object) -> None:
        assert callable(check)
        try:
            inputs[name] = check()
        except ConfigError as error:
            problems.extend(error.problems)

    attempt("backbone", lambda: _check_backbone(job))
    attempt("weights", lambda: find_weights(job.model.backbone.weights, places.weights_roots))
    attempt("select", lambda: selection(job.model))
    attempt("data", lambda: find_data(job, places))
    if problems:
        raise ConfigError(problems)
    return Inputs(Path(inputs["data"]), str(inputs["weights"]))


def _check_backbone(job: JobSpec) -> None:
    try:
        resolve(job.model.backbone.name)
    except ValueError as error:
        raise ConfigError(Problem("model.backbone.name", str(error))) from error


def find_data(job: JobSpec, places: Places) -> Path:
    """Return the folder of the job's data; raises ConfigError where it is not found, or found twice."""
    if places.data_root is None:
        return find_root(job.data.root, places.data_roots)
    if not places.data_root.is_dir():
        raise ConfigError(Problem("--data.root", f"got {str(places.data_root)!r}, which is no folder"))
    return places.data_root.resolve()


def find_weights(weights: str, weights_roots: Sequence[Path]) -> str:
    """Return `default`, `none`, or the absolute path of the one file of that name below a weights root."""
    if weights in ("default", "none"):
        return weights
    field = "model.backbone.weights"
    hits: list[Path] = []
    for root in weights_roots:
        try:
            path = below(root, weights)
        except ValueError as error:
            raise ConfigError(
                Problem(field, f"{error}; weights lie below a weights root (--weights-root, {WEIGHTS_ROOTS_VARIABLE})")
            ) from error
        if path.is_file() and path not in hits:
            hits.append(path)
    roots = ", ".join(str(root.resolve()) for root in weights_roots)
    if not hits:
        remedy = f"write default, none, or a file below {roots} (--weights-root, {WEIGHTS_ROOTS_VARIABLE})"
        raise ConfigError(Problem(field, f"got {weights!r}, and there is no such file; {remedy}"))
    if len(hits) > 1:
        raise ConfigError(Problem(field, f"{weights!r} is there twice, {hits[0]} and {hits[1]}; rename one"))
    return str(hits[0])
