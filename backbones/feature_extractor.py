"""What an adapter makes of a library's network: a body with three taps."""

from collections.abc import Mapping

from torch import Tensor, nn

from backbones.layers import block_ranks

RGB = tuple[float, float, float]

IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)


class FeatureExtractor(nn.Module):
    """A network of a library, cut down to what its taps need.

    Attributes:
        network: the library's own module, under the library's own parameter names.
        mean, std: what the network's weights expect of RGB values in [0, 1].
    """

    def __init__(self, network: nn.Module, mean: RGB, std: RGB) -> None:
        super().__init__()
        self.network = network
        self.mean = mean
        self.std = std

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of strides 8, 16, 32, finest first, each (B, C, H, W), as the network gives them."""
        raise NotImplementedError

    def layer_ranks(self) -> dict[str, int]:
        """Return where along `network` the layer of each of its parameters comes, at any numbers."""
        return block_ranks(self.network, self)

    def rename(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a state dict, as it was published, under the names of `network`."""
        return state

    def assign_stages(self, found: dict[str, str]) -> dict[str, str]:
        """Return the stage of every parameter in `found`, where the body knows better than its levels tell.

        Args:
            found: by names as the backbone around this body has them, the first level that needs the parameter.
        """
        return found
