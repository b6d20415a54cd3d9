"""A batch whose loss is not finite: it is kept in a file, and an error names it."""

import io
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from heads.base import Target
from pipelines.base.errors import NumericsError
from pipelines.base.ranks import is_distributed, world_size
from pipelines.data.loading.sample import Batch
from pipelines.run_folder.files import write_atomic

NUM_NAMES = 8
"""Maximum number of images that a message names."""


@dataclass(frozen=True)
class Position:
    """Position of a micro-batch in a run; `seed` is the seed of the random generators for its forward pass."""

    epoch: int
    step: int
    batch: int
    rank: int
    seed: int


def non_finite_loss(
    batch: Batch, terms: Mapping[str, Tensor], position: Position, folder: Path | None
) -> NumericsError:
    """Keep this rank's batch, and return the error that names the terms and images; all ranks must call this.

    The first such batch of a run is kept in `folder`/epoch<E>_step<S>_rank<R>.pt, which loads with `weights_only=True`:
    {"epoch", "step", "batch", "rank", "seed", "images": (B, 3, H, W) uint8, the network's input, "infos": [dict of
    `ImageInfo`], "targets": by task [None or {"type", and the fields of that `Target`}], "terms": {"<task>/<term>":
    value, over all ranks}}. The network with the weights of that step, in training mode after
    `torch.manual_seed(seed)`, reproduces this rank's share of the terms.

    Args:
        batch: of this rank.
        terms: by "<task>/<term>", the same on all ranks.
        position: of this rank.
        folder: for the file; None: the batch is not kept.
    """
    values = {name: float(value) for name, value in terms.items()}
    broken = ", ".join(f"{name} is {value}" for name, value in values.items() if not math.isfinite(value))
    is_kept = folder is not None and _keep(batch, values, position, folder)
    where = ""
    if is_kept:
        rank = "*" if is_distributed() else position.rank
        where = f" (kept in {folder}/{_file_name(position, rank)})"
    return NumericsError(
        f"the loss {broken} in epoch {position.epoch + 1}, step {position.step}, for the images {_names(batch)}"
        f"{where}; "
        "lower model.optimizer.lr, lengthen model.schedule.warmup_steps, or set trainer.precision to 32-true"
    )


def _names(batch: Batch) -> str:
    names = [info.file_name for info in batch.infos]
    if is_distributed():
        of_ranks: list[Any] = [None] * world_size()
        torch.distributed.all_gather_object(of_ranks, names)
        names = [name for of_rank in of_ranks for name in of_rank]
    rest = f" and {len(names) - NUM_NAMES} more" if len(names) > NUM_NAMES else ""
    return ", ".join(names[:NUM_NAMES]) + rest


def _keep(batch: Batch, values: Mapping[str, float], position: Position, folder: Path) -> bool:
    """Write the batch and return whether it was written; a batch that this rank kept earlier is not replaced."""
    if any(folder.glob(f"*_rank{position.rank}.pt")):
        return False
    content = {
        **asdict(position),
        "images": batch.images.cpu(),
        "infos": [asdict(info) for info in batch.infos],
        "targets": {task: [_plain(target) for target in of_task] for task, of_task in batch.targets.items()},
        "terms": dict(values),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    # A full disk must not hide the original error.
    with suppress(OSError):
        write_atomic(folder / _file_name(position, position.rank), buffer.getvalue())
        return True
    return False


def _file_name(position: Position, rank: int | str) -> str:
    return f"epoch{position.epoch}_step{position.step}_rank{rank}.pt"


def _plain(target: Target | None) -> dict[str, Any] | None:
    if target is None:
        return None
    return {"type": type(target).__name__, **{name: tensor.cpu() for name, tensor in vars(target).items()}}
