"""Checks before anything is started: the inputs that the document names exist and fit. Torch-free."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.catalog.checks import require_surgery
from backbones.catalog.licenses import lack_of_weights, license_problem
from backbones.catalog.lookup import resolve
from backbones.weights_sources.defaults import DETECTOR_PREFIX
from backbones.weights_sources.rows import DETECTORS
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.paths import below
from pipelines.data.dataset.roots import find_root
from pipelines.evaluation.metric_names import selection
from pipelines.run_folder.layout import ExportedModelDir, RunDir
from pipelines.spec.batch_prediction import BatchPredictionSpec
from pipelines.spec.job import JobSpec
from pipelines.spec.model import BackboneSpec

WEIGHTS_ROOTS_VARIABLE = "PYRAMIDION_WEIGHTS_ROOTS"

DATA_OPTIONS = "--data-root names the folder that contains the document's data.root, --data.root the data itself"

REGISTRY = "models:/"
PUBLISHED = DETECTOR_PREFIX
_REGISTERED = re.compile(r"models:/[^/@:]+(?:/[1-9][0-9]*|@[^/@:]+)")


@dataclass(frozen=True)
class Places:
    """Folders in which names from the document are looked up.

    Attributes:
        data_roots: contain the folder `data.root` of the document.
        weights_roots: contain files of weights, run folders and checkpoints.
        data_root: the data itself, instead of a folder in `data_roots`.
        are_given: the user named `data_roots` or `data_root`.
        named_data_roots: those of `data_roots` that the user named by the option `--data-root`.
    """

    data_roots: Sequence[Path]
    weights_roots: Sequence[Path]
    data_root: Path | None = None
    are_given: bool = False
    named_data_roots: Sequence[Path] = ()


@dataclass(frozen=True)
class Inputs:
    """The inputs that the document names.

    Attributes:
        data: folder of the data.
        weights: `default`, `none`, or the path of a weights file.
        init_from: path of a checkpoint, of an exported model or of a detector's file, a version in MLflow's registry
            (`models:/...`), or a detector of torchvision (`tv:...`); None: the run starts from `weights` only.
    """

    data: Path
    weights: str
    init_from: str | None = None


def preflight(job: JobSpec, places: Places, *, is_new: bool = True) -> Inputs:
    """Return the inputs that the document names.

    Args:
        job: the document.
        places: where to look.
        is_new: False for a run that resumes: its weights are in its checkpoint, and those that it started from are not
            looked up.

    Raises:
        ConfigError: with all problems.
    """
    problems: list[FieldProblem] = []
    weights, init_from = job.model.backbone.weights, job.model.init_from

    def checked(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except ConfigError as error:
            problems.extend(error.problems)

    # Which parts of the backbone init_from contains is known when it is read; default weights may not be needed.
    checked(lambda: _check_backbone(job.model.backbone, starts_from_weights=is_new and init_from is None))
    found = checked(lambda: find_weights(weights, places.weights_roots)) if is_new else "none"
    source = checked(lambda: find_init_from(init_from, places.weights_roots)) if is_new and init_from else None
    checked(lambda: selection(job.model))
    data = checked(lambda: find_data(job, places))
    if problems:
        raise ConfigError(problems)
    return Inputs(data, found, source)


def _check_backbone(backbone: BackboneSpec, *, starts_from_weights: bool) -> None:
    try:
        row = resolve(backbone.network)
    except ValueError as error:
        raise ConfigError(FieldProblem("model.backbone.name", str(error))) from error
    try:
        require_surgery(row, backbone.surgery)
    except ValueError as error:
        field, _, message = str(error).partition(": ")
        raise ConfigError(FieldProblem(f"model.backbone.{field}", message)) from error
    if starts_from_weights:
        require_default_weights(backbone)


def require_default_weights(backbone: BackboneSpec) -> None:
    """Raise ConfigError if the document asks for default weights that do not exist, or whose license requires
    `accept_license`."""
    if backbone.weights != "default":
        return
    row = resolve(backbone.network)
    if problem := lack_of_weights(row):
        raise ConfigError(FieldProblem("model.backbone.weights", problem))
    if not backbone.accept_license and (problem := license_problem(row)):
        raise ConfigError(FieldProblem("model.backbone.accept_license", problem))


def find_data(job: JobSpec, places: Places) -> Path:
    """Return the folder of the job's data; raises ConfigError if it is not found, or found twice."""
    named = [("--data-root", path) for path in places.named_data_roots]
    named += [("--data.root", places.data_root)] if places.data_root else []
    if problems := [
        FieldProblem(option, f"got {str(path)!r}, which is not a folder; {DATA_OPTIONS}")
        for option, path in named
        if not path.is_dir()
    ]:
        raise ConfigError(problems)
    if places.data_root is not None:
        return places.data_root.resolve()
    try:
        return find_root(job.data.root, places.data_roots)
    except ConfigError as error:
        for path in places.named_data_roots:
            if any((path / source.images.partition("{")[0]).is_dir() for source in job.data.sources.values()):
                text = (
                    f"got {str(path)!r}, which is the data itself, it seems; write --data.root {path} ({DATA_OPTIONS})"
                )
                raise ConfigError([*error.problems, FieldProblem("--data-root", text)]) from None
        raise


def image_folder(spec: BatchPredictionSpec, data_roots: Sequence[Path]) -> Path:
    """Return the folder of the images of a batch prediction; raises ConfigError if it is not found, or found twice."""
    assert spec.folder is not None
    try:
        return find_root(spec.folder, data_roots)
    except ConfigError as error:
        raise ConfigError([FieldProblem("folder", problem.message) for problem in error.problems]) from error


def find_weights(weights: str, weights_roots: Sequence[Path]) -> str:
    """Return `default`, `none`, or the absolute path of the file of that name below a weights root."""
    if weights in ("default", "none"):
        return weights
    remedy = "write default, none, or a file"
    return str(_find_below("model.backbone.weights", weights, weights_roots, Path.is_file, remedy))


def find_init_from(name: str, weights_roots: Sequence[Path]) -> str:
    """Return a `models:/...` or `tv:...` name unchanged, or the absolute path of a file or of an exported model.

    For a run folder this is its best checkpoint, or `model/` if that checkpoint is missing.
    """
    field = "model.init_from"
    if name.startswith("models:"):
        if not _REGISTERED.fullmatch(name):
            raise ConfigError(FieldProblem(field, f"got {name!r}; write models:/NAME@ALIAS or models:/NAME/VERSION"))
        return name
    if name.startswith(PUBLISHED):
        if name.removeprefix(PUBLISHED) not in DETECTORS:
            known = " or ".join(f"{PUBLISHED}{detector}" for detector in DETECTORS)
            raise ConfigError(FieldProblem(field, f"got {name!r}; write {known}, or the name of a file"))
        return name
    remedy = "write models:/NAME@ALIAS, tv:NAME, or a run folder, a checkpoint or the file of a detector"
    path = _find_below(field, name, weights_roots, Path.exists, remedy)
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
        else "it contains neither checkpoints/best.ckpt nor model.json; name a run folder that fit has written, its "
        "model/ folder, or a checkpoint"
    )
    raise ConfigError(FieldProblem("model.init_from", f"got {name!r}, {folder}: {hint}"))


def _find_below(
    field: str, name: str, weights_roots: Sequence[Path], is_valid: Callable[[Path], bool], remedy: str
) -> Path:
    """Return the only path of that name below the weights roots; raises ConfigError unless there is exactly one."""
    hits: list[Path] = []
    for root in weights_roots:
        try:
            path = below(root, name)
        except ValueError as error:
            raise ConfigError(
                FieldProblem(
                    field, f"{error}; weights must be below a weights root (--weights-root, {WEIGHTS_ROOTS_VARIABLE})"
                )
            ) from error
        if is_valid(path) and path not in hits:
            hits.append(path)
    roots = ", ".join(str(root.resolve()) for root in weights_roots)
    if not hits:
        remedy += f" below {roots} (--weights-root, {WEIGHTS_ROOTS_VARIABLE})"
        raise ConfigError(FieldProblem(field, f"got {name!r}, which does not exist; {remedy}"))
    if len(hits) > 1:
        raise ConfigError(FieldProblem(field, f"{name!r} exists twice, as {hits[0]} and {hits[1]}; rename one of them"))
    return hits[0]
