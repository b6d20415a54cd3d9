"""What can be known to be wrong before anything is started, without torch."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.catalog.checks import require_surgery
from backbones.catalog.licenses import lack_of_weights, license_problem
from backbones.catalog.lookup import resolve
from pipelines.data.dataset.roots import find_root
from pipelines.errors import ConfigError, FieldProblem
from pipelines.evaluation.metric_names import selection
from pipelines.paths import below
from pipelines.run_folder.layout import ExportedModelDir, RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.model import BackboneSpec

WEIGHTS_ROOTS_VARIABLE = "PYRAMIDION_WEIGHTS_ROOTS"

REGISTRY = "models:/"
_REGISTERED = re.compile(r"models:/[^/@:]+(?:/[1-9][0-9]*|@[^/@:]+)")


@dataclass(frozen=True)
class Places:
    """Where names of the document are looked up.

    `data_root` is `--data.root` of the command line: any folder, instead of `data.root` below `data_roots`. `are_given`
    says whether the command line names one of both.
    """

    data_roots: Sequence[Path]
    weights_roots: Sequence[Path]
    data_root: Path | None = None
    are_given: bool = False


@dataclass(frozen=True)
class Inputs:
    """What the document's names stand for here.

    Attributes:
        data: the data's folder.
        weights: `default`, `none`, or the path of a weights file.
        init_from: the path of a checkpoint of ours or of an exported model, or a version of MLflow's registry
            (`models:/...`); None: the run begins with `weights` alone.
    """

    data: Path
    weights: str
    init_from: str | None = None


def preflight(job: JobSpec, places: Places, *, is_new: bool = True) -> Inputs:
    """Return what the document's names stand for; raises ConfigError with all problems at once.

    A run that goes on has its weights in its checkpoint: then (`is_new` False) what it began from is not looked for.
    """
    problems: list[FieldProblem] = []
    weights, init_from = job.model.backbone.weights, job.model.init_from

    def checked(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except ConfigError as error:
            problems.extend(error.problems)

    # What init_from holds of the backbone is known when it is read; only what it lacks is fetched.
    checked(lambda: _check_backbone(job.model.backbone, begins_with_weights=is_new and init_from is None))
    found = checked(lambda: find_weights(weights, places.weights_roots)) if is_new else "none"
    begins = checked(lambda: find_init_from(init_from, places.weights_roots)) if is_new and init_from else None
    checked(lambda: selection(job.model))
    data = checked(lambda: find_data(job, places))
    if problems:
        raise ConfigError(problems)
    return Inputs(data, found, begins)


def _check_backbone(backbone: BackboneSpec, *, begins_with_weights: bool) -> None:
    try:
        row = resolve(backbone.network)
    except ValueError as error:
        raise ConfigError(FieldProblem("model.backbone.name", str(error))) from error
    try:
        require_surgery(row, backbone.surgery)
    except ValueError as error:
        field, _, message = str(error).partition(": ")
        raise ConfigError(FieldProblem(f"model.backbone.{field}", message)) from error
    if begins_with_weights:
        require_default_weights(backbone)


def require_default_weights(backbone: BackboneSpec) -> None:
    """Raise ConfigError where default weights are asked for that nobody has, or under a license that asks for more
    than the document accepts."""
    if backbone.weights != "default":
        return
    row = resolve(backbone.network)
    if problem := lack_of_weights(row):
        raise ConfigError(FieldProblem("model.backbone.weights", problem))
    if not backbone.accept_license and (problem := license_problem(row)):
        raise ConfigError(FieldProblem("model.backbone.accept_license", problem))


def find_data(job: JobSpec, places: Places) -> Path:
    """Return the folder of the job's data; raises ConfigError where it is not found, or found twice."""
    if places.data_root is None:
        return find_root(job.data.root, places.data_roots)
    if not places.data_root.is_dir():
        raise ConfigError(FieldProblem("--data.root", f"got {str(places.data_root)!r}, which is no folder"))
    return places.data_root.resolve()


def find_weights(weights: str, weights_roots: Sequence[Path]) -> str:
    """Return `default`, `none`, or the absolute path of the one file of that name below a weights root."""
    if weights in ("default", "none"):
        return weights
    remedy = "write default, none, or a file"
    return str(_find_below("model.backbone.weights", weights, weights_roots, Path.is_file, remedy))


def find_init_from(name: str, weights_roots: Sequence[Path]) -> str:
    """Return a version of MLflow's registry as it is written, or the absolute path of a checkpoint of ours or of an
    exported model: of a run folder that is its best checkpoint, or else its `model/`."""
    field = "model.init_from"
    if name.startswith("models:"):
        if not _REGISTERED.fullmatch(name):
            raise ConfigError(FieldProblem(field, f"got {name!r}; write models:/NAME@ALIAS or models:/NAME/VERSION"))
        return name
    path = _find_below(
        field, name, weights_roots, Path.exists, "write models:/NAME@ALIAS, or a run folder or checkpoint"
    )
    return str(path if path.is_file() else _model_in(path, name))


def _model_in(folder: Path, name: str) -> Path:
    run_dir = RunDir.of(folder)

    def inside(path: Path) -> Path:
        return below(folder, str(path.relative_to(folder)))

    try:
        model, in_run = (
            inside(ExportedModelDir(folder).description),
            inside(ExportedModelDir(run_dir.model).description),
        )
        best, last = inside(run_dir.best_checkpoint), inside(run_dir.last_checkpoint)
    except ValueError as error:
        raise ConfigError(FieldProblem("model.init_from", f"got {name!r}: {error}; name the file itself")) from error
    if model.is_file():
        return folder
    if best.is_file():
        return best
    if in_run.is_file():
        return in_run.parent
    last_name = Path(name, run_dir.last_checkpoint.relative_to(folder))
    hint = (
        f"it has no best checkpoint yet; let fit reach a validation, or write {last_name}"
        if last.is_file()
        else "there is no checkpoints/best.ckpt in it, and no model.json; name a run folder that fit has written, the "
        "model/ in one, or a checkpoint"
    )
    raise ConfigError(FieldProblem("model.init_from", f"got {name!r}, {folder}: {hint}"))


def _find_below(
    field: str, name: str, weights_roots: Sequence[Path], is_wanted: Callable[[Path], bool], remedy: str
) -> Path:
    """Return the one path of that name below the weights roots; raises ConfigError where there is none, or two."""
    hits: list[Path] = []
    for root in weights_roots:
        try:
            path = below(root, name)
        except ValueError as error:
            raise ConfigError(
                FieldProblem(
                    field, f"{error}; weights lie below a weights root (--weights-root, {WEIGHTS_ROOTS_VARIABLE})"
                )
            ) from error
        if is_wanted(path) and path not in hits:
            hits.append(path)
    roots = ", ".join(str(root.resolve()) for root in weights_roots)
    if not hits:
        remedy += f" below {roots} (--weights-root, {WEIGHTS_ROOTS_VARIABLE})"
        raise ConfigError(FieldProblem(field, f"got {name!r}, and there is no such file; {remedy}"))
    if len(hits) > 1:
        raise ConfigError(FieldProblem(field, f"{name!r} is there twice, {hits[0]} and {hits[1]}; rename one"))
    return hits[0]
