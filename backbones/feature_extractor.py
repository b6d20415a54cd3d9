"""Base class of feature extractors, to which each adapter converts the networks of one library."""

from collections.abc import Mapping

from torch import Tensor, nn

from backbones.layers import block_ranks

RGB = tuple[float, float, float]

IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)


class FeatureExtractor(nn.Module):
    """A network that returns maps with three strides; later layers are removed.

    Attributes:
        network: the library's module, with the library's parameter names.
        mean, std: mean and standard deviation of RGB values in [0, 1] that the network's weights expect.
    """

    def __init__(self, network: nn.Module, mean: RGB, std: RGB) -> None:
        super().__init__()
        self.network = network
        self.mean = mean
        self.std = std

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the network's own maps with strides 8, 16, 32, finest first, each (B, C, H, W)."""
        raise NotImplementedError

    def layer_ranks(self) -> dict[str, int]:
        """Return a rank for each parameter of `network`: parameters of later layers have larger ranks."""
        return block_ranks(self.network, self)

    def rename(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a published state dict with the parameter names of `network`."""
        return state

    def assign_stages(self, found: dict[str, str]) -> dict[str, str]:
        """Return the stage of every parameter in `found`; subclasses override stages that levels do not determine.

        Args:
            found: the first level that needs each parameter, keyed by the parameter names of the enclosing backbone.
        """
        return found
