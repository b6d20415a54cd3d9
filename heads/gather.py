"""Collectives of heads: rows of all ranks on every rank, for losses that couple all rows of a batch, and sums.

Legend: N rows of this rank (any number, even 0), M rows of all ranks, D width.
"""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable


def gather_rows(embeddings: Tensor, identities: Tensor, *, has_loss: bool) -> tuple[Tensor, Tensor]:
    """Return the embeddings (M, D) and identities (M,) of all ranks in rank order, the same on every rank.

    This is a collective: every rank calls it once per step and head, even with zero rows. The ranks with `has_loss`
    then compute the same loss of the joint rows with the same weight. The gradient of this rank's rows is the sum over
    these ranks. Their gradients are equal, so it is this rank's own gradient times their number. The backward pass thus
    needs no collective, whose order relative to those of DDP would differ between ranks with and without a loss.

    Without a process group, or with a single rank, the arguments are returned unchanged.

    Args:
        embeddings: (N, D) float32. identities: (N,) int64.
        has_loss: True if this rank uses the result in its loss; False if its head is idle.
    """
    if not _has_other_ranks():
        return embeddings, identities
    mine = torch.tensor([len(identities), int(has_loss)], device=embeddings.device)
    all_ranks = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(all_ranks, mine)
    counts, losses = (column.tolist() for column in torch.stack(all_ranks).unbind(1))
    joint_identities = _gather_uneven(identities, counts)
    joint: Tensor = _GatherRows.apply(embeddings, counts, sum(losses))
    return joint, joint_identities


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of `values` over all ranks, without a gradient; a collective, as `gather_rows`."""
    total = values.detach().clone()
    if _has_other_ranks():
        distributed.all_reduce(total)
    return total


def _has_other_ranks() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], num_losses: int) -> Tensor:
        rank = distributed.get_rank()
        ctx.first, ctx.count, ctx.num_losses = sum(counts[:rank]), counts[rank], num_losses
        return _gather_uneven(rows, counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        return grad_output[ctx.first : ctx.first + ctx.count] * ctx.num_losses, None, None


def _gather_uneven(rows: Tensor, counts: list[int]) -> Tensor:
    longest = max(counts)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    if longest > 0:
        distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
