"""BatchNorm synchronized across all processes."""

from collections.abc import Callable

from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


def synchronize_batch_norms(network: nn.Module) -> nn.Module:
    """Return `network` with every BatchNorm synchronized across processes; the keys of the state dict stay the same.

    timm's BatchNorms include the activation that follows them. torch's `SyncBatchNorm.convert_sync_batchnorm` treats
    them as plain BatchNorms, so the network silently loses these activations.
    """
    if any(isinstance(module, nn.SyncBatchNorm) for module in network.modules()):
        return network
    convert: Callable[[nn.Module], nn.Module] = convert_sync_batchnorm
    return convert(network)
