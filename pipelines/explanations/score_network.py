"""A score of one prediction as a module from images to numbers, which Captum differentiates and evaluates.

Legend: B versions of one image, C channels, h w size before padding, H W size after it.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from heads.base import Head
from heads.explainable import FollowedScore
from pipelines.data.loading.sample import padded_size
from pipelines.model import MultiTaskModel


class ScoreNetwork(nn.Module):
    """The followed score of versions of one image.

    Args:
        model: in eval mode.
        head: of the task.
        followed: the score.
        before_pass: called before the network computes a batch; it may raise, to stop the explanation.

    Attributes:
        tap: a layer without effect, whose output is the map of the followed level (B, C, H', W').
        num_passes: number of images that the network has computed.
    """

    def __init__(
        self, model: MultiTaskModel, head: Head, followed: FollowedScore, before_pass: Callable[[], None]
    ) -> None:
        super().__init__()
        self.model, self.head, self.followed = model, head, followed
        self.tap = nn.Identity()
        self.num_passes = 0
        self._before_pass = before_pass

    def forward(self, images: Tensor) -> Tensor:
        """Return the score (B,) of images (B, 3, h, w), float32 from 0 to 255, which are padded as those of a batch."""
        self._before_pass()
        self.num_passes += len(images)
        height, width = images.shape[2:]
        padded_height, padded_width = padded_size((height, width))
        padded = functional.pad(images, (0, padded_width - width, 0, padded_height - height))
        features = dict(self.model.features(padded))
        features[self.followed.level] = self.tap(features[self.followed.level])
        return self.followed.of(self.head(features)).float()
