"""`trainer.compile`: torch.compile for the layers of the backbone, the neck and the heads in training steps.

Layers are compiled in place, so that names in state dicts and checkpoints stay as they are. Losses, and evaluation,
are not compiled: predictions of a run are those of the exported model, which is not compiled either.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.model import MultiTaskModel
from pipelines.spec.job import JobSpec
from pipelines.training.trainer import accelerator_of

FIELD = "trainer.compile"
MAX_SHAPES = 64
"""Number of batch shapes and stages of freezing for which layers are compiled; further ones run without compilation."""


def require_compilation_fits(job: JobSpec) -> None:
    """Raise ConfigError if `trainer.compile` does not work with another setting, or a compiler is missing."""
    if not job.trainer.compile:
        return
    if job.model.aggregate != "none":
        problem = f"got true with model.aggregate: {job.model.aggregate}, which runs the backward pass of the shared "
        raise ConfigError(FieldProblem(FIELD, f"{problem}layers for all tasks at once; set one of them to its default"))
    is_gpu = accelerator_of(job.trainer) == "gpu"
    variable, names = ("CC", ("gcc", "clang", "cc")) if is_gpu else ("CXX", ("g++", "clang++", "c++"))
    if not any(map(shutil.which, filter(None, (os.environ.get(variable), *names)))):
        problem = f"got true, but no compiler is on the PATH ({', '.join(names)}); install one, name it in the "
        raise ConfigError(FieldProblem(FIELD, f"{problem}environment variable {variable}, or write false"))
    if is_gpu and find_spec("triton") is None:
        raise ConfigError(
            FieldProblem(FIELD, "got true, but the package triton is missing; install it, or write false")
        )


def compile_layers(model: MultiTaskModel, backend: str | Callable[..., object] = "inductor") -> None:
    """Compile the layers of the network when they are first used, once for each shape of a batch.

    A shape always gets the same code, whatever shapes came before it, so that a resumed run computes the same as one
    without interruption. Shapes that torch treats as variables would not guarantee that.

    Args:
        model: is changed in place.
        backend: of torch.compile.
    """
    # The statistics of the tasks' gradients run the backward pass of a graph twice.
    torch._functorch.config.donated_buffer = False
    torch._dynamo.config.recompile_limit = MAX_SHAPES
    for module in (model.backbone, model.neck, *model.heads.values()):
        module.compile(backend=backend, dynamic=False)
    model.is_compiled = True


def forget_compiled_layers(model: MultiTaskModel) -> None:
    """Compile again at the next step; call this when other parts of the network are frozen."""
    if model.is_compiled:
        torch.compiler.reset()


def without_compilation(model: MultiTaskModel) -> AbstractContextManager[None]:
    """Return a context in which the network computes without compiled code."""
    return torch.compiler.set_stance("force_eager") if model.is_compiled else nullcontext()
