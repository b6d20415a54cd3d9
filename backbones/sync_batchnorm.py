"""BatchNorm over all processes."""

from collections.abc import Callable

from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


def synchronize_batch_norms(network: nn.Module) -> nn.Module:
    """Return `network` with every BatchNorm over the images of all processes; keys of the state dict stay the same.

    torch's own `SyncBatchNorm.convert_sync_batchnorm` takes timm's BatchNorms, which have the activation behind them
    inside, for plain ones: without a word the network loses these activations.
    """
    if any(isinstance(module, nn.SyncBatchNorm) for module in network.modules()):
        return network
    convert: Callable[[nn.Module], nn.Module] = convert_sync_batchnorm
    return convert(network)
