"""Lightning's trainer gets its settings from the document."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from pipelines.base.errors import ConfigError
from pipelines.spec.training import TrainerSpec
from pipelines.training.trainer import SyncedBatchNorm, create_trainer, require_synced_batch_norm

SYNCED: dict[str, Any] = {"max_epochs": 1, "sync_batchnorm": True}


def test_sync_batchnorm_is_rejected_on_the_cpu_but_its_models_can_be_evaluated_there() -> None:
    spec = TrainerSpec(**SYNCED, accelerator="cpu")
    with pytest.raises(
        ConfigError, match=r"^trainer\.sync_batchnorm: got true on the CPU, .*; write false, or train on"
    ):
        require_synced_batch_norm(spec)
    assert create_trainer(spec, [])._accelerator_connector._layer_sync is None
    require_synced_batch_norm(TrainerSpec(max_epochs=1, accelerator="cpu"))


def test_lightning_uses_our_sync_batchnorm_plugin() -> None:
    plugin = SyncedBatchNorm()
    trainer = Trainer(accelerator="cpu", devices=1, sync_batchnorm=True, plugins=[plugin], logger=False)
    assert trainer._accelerator_connector._layer_sync is plugin
    network = plugin.apply(nn.Sequential(nn.BatchNorm2d(3)))
    assert isinstance(network[0], nn.SyncBatchNorm)
    assert plugin.revert(network) is network


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_trainer_on_a_gpu_synchronizes_batchnorm() -> None:
    spec = TrainerSpec(**SYNCED, accelerator="gpu", devices=1)
    require_synced_batch_norm(spec)
    assert isinstance(create_trainer(spec, [])._accelerator_connector._layer_sync, SyncedBatchNorm)
