"""The numbers that the losses of a detector are divided by.

Legend: B images, N rows (anchors, locations or boxes) of all images, T loss terms.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from heads.base import LossTerms
from heads.detection_spec import LossNormalizer
from heads.gather import sum_over_ranks

MEAN_COUNTS = "normalizer.mean_counts"
"""Name of the only tensor in the state of a head that its outputs do not depend on."""
MOMENTUM = 0.9
"""Share of the old average in the new one (detectron2's `RetinaNet` uses the same)."""


class Normalizer(nn.Module):
    """Turns the losses and counts of rows into the loss terms of a head, as its setting `normalizer` says.

    - `global`: the sum over all images, divided by the count of all images.
    - `per_image`: the sum of each image divided by its own count (by 1 if it is less), averaged over the images, as in
      torchvision's RetinaNet.
    - `ema`: the sum over all images, divided by an exponential moving average of the count of all images, as in
      detectron2's RetinaNet. The count is at least 1 in every step, and steps in which no image is labeled do not
      change the average. Deviations: each term has an average of its own count, over all ranks instead of one; the
      average starts with the first count instead of 100. It changes in training mode only.

    Images are those of all ranks. With `ema`, `terms` and `idle` are collectives: every rank calls one of them per
    step and head.

    Args:
        name: the setting.
        num_terms: T.
    """

    mean_counts: Tensor
    """(T,), 0 before the first step; only with `ema`. It is part of the state, so that a run resumes exactly."""

    def __init__(self, name: LossNormalizer, num_terms: int) -> None:
        super().__init__()
        self.name = name
        if name == "ema":
            self.register_buffer("mean_counts", torch.zeros(num_terms))

    def total(self, values_N: Tensor, images_N: Tensor, num_images: int) -> Tensor:
        """Return the sum of the values (N, ...) of all rows: over all images as (), with `per_image` of each as (B,).

        Args:
            values_N: losses or counts.
            images_N: (N,) int64, the image of each row.
            num_images: B.
        """
        if self.name != "per_image":
            return values_N.sum()
        sums_N = values_N if values_N.dim() == 1 else values_N.flatten(1).sum(dim=1)
        return sums_N.new_zeros(num_images).index_add(0, images_N, sums_N)

    def total_of_images(
        self, loss: Callable[[Tensor, Tensor], Tensor], outputs_BN: Tensor, labels_BN: Tensor
    ) -> Tensor:
        """Return the summed loss of all rows: over all images as (), with `per_image` of each as (B,).

        Args:
            loss: maps outputs (N, ...) and labels (N,) to their summed loss.
            outputs_BN: (B, N, ...).
            labels_BN: (B, N).
        """
        if self.name != "per_image":
            return loss(outputs_BN.flatten(0, 1), labels_BN.flatten())
        pairs = zip(outputs_BN.unbind(), labels_BN.unbind(), strict=True)
        return torch.stack([loss(outputs_N, labels_N) for outputs_N, labels_N in pairs])

    def terms(self, totals: Mapping[str, tuple[Tensor, Tensor]], num_images: int) -> LossTerms:
        """Return the loss terms of this rank.

        Args:
            totals: sum and count of each term, as returned by `total` and `total_of_images`.
            num_images: B, the labeled images of this rank.
        """
        if self.name == "global":
            return dict(totals)
        if self.name == "per_image":
            return {
                term: ((sums_B / counts_B.clamp(min=1)).sum(), torch.full_like(sums_B[0], num_images))
                for term, (sums_B, counts_B) in totals.items()
            }
        counts_T = self._averages(torch.stack([count for _, count in totals.values()]).detach(), num_images)
        return {term: (total, count) for (term, (total, _)), count in zip(totals.items(), counts_T, strict=True)}

    def idle(self) -> None:
        """Take part in the collective of a step in which no image of this rank is labeled."""
        if self.name == "ema":
            self._averages(torch.zeros_like(self.mean_counts), 0)

    def _averages(self, counts_T: Tensor, num_images: int) -> Tensor:
        """Return the part (T,) of this rank in the averages: their sum over the ranks is the average."""
        joint = sum_over_ranks(torch.cat((counts_T, counts_T.new_tensor([num_images]))))
        joint_T, joint_images = joint[:-1].clamp(min=1), joint[-1]
        means_T = torch.where(self.mean_counts > 0, self.mean_counts.lerp(joint_T, 1 - MOMENTUM), joint_T)
        if self.training:
            self.mean_counts.copy_(torch.where(joint_images > 0, means_T, self.mean_counts))
        return means_T * (num_images / joint_images.clamp(min=1))
