"""BatchNorm over one value, which has no statistics: one image with a map of 1 x 1, as after global pooling."""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def accept_single_values(model: nn.Module) -> None:
    """Let the BatchNorm layers of a model train on batches that have one value per channel.

    torch refuses such a batch: its variance is 0, and every output would be the layer's bias. The layer uses its
    running statistics for it, as in evaluation, and does not update them. All other batches give the same bits as
    before. Layers that are replaced later, such as by SyncBatchNorm, which counts the values of all processes, lose
    this behavior.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.register_forward_pre_hook(_evaluate_single_values)
            module.register_forward_hook(_train_again, always_call=True)


def _evaluate_single_values(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    (features,) = inputs
    if module.training and features.numel() == features.shape[1]:
        module.training = False
        module.has_single_values = True


def _train_again(module: nn.Module, inputs: Any, outputs: Any) -> None:
    if module.__dict__.pop("has_single_values", False):
        module.training = True
