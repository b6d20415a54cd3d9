"""The Lightning trainer that `trainer` of a document describes."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.strategies import Strategy
from torch.nn import Module

from backbones.sync_batchnorm import synchronize_batch_norms
from pipelines.base.cpu_features import computes_bfloat16
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.ranks import num_nodes
from pipelines.spec.training import TrainerSpec
from pipelines.training.lightning_internals import disable_signal_handlers
from pipelines.training.strategy import LocalDDPStrategy, Nodes, share_cores

SET_HERE = {"accelerator", "devices", "strategy", "precision", "deterministic"} | {
    "budget",
    "early_stopping",
    "sync_batchnorm",
    "compile",
}
"""Fields of the document that are not passed to Lightning as they are."""

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def accelerator_of(spec: TrainerSpec) -> str:
    """Return `cpu` or `gpu`; raises ConfigError if a GPU is required and torch finds none."""
    has_gpu = torch.cuda.is_available()
    if spec.accelerator == "gpu" and not has_gpu:
        raise ConfigError(
            FieldProblem("trainer.accelerator", "got 'gpu', but torch finds no GPU on this machine; write auto or cpu")
        )
    return "gpu" if has_gpu and spec.accelerator != "cpu" else "cpu"


def num_processes(spec: TrainerSpec) -> int:
    """Return the number of training processes on all nodes; raises ConfigError as `processes_per_node`."""
    return processes_per_node(spec) * spec.num_nodes


def processes_per_node(spec: TrainerSpec) -> int:
    """Return the number of training processes of a node; raises ConfigError if this machine has too few GPUs."""
    if accelerator_of(spec) == "cpu":
        if isinstance(spec.devices, tuple):
            raise ConfigError(FieldProblem("trainer.devices", f"got {list(spec.devices)} on the CPU; write a number"))
        return 1 if spec.devices == "auto" else spec.devices
    available = torch.cuda.device_count()
    devices = available if spec.devices == "auto" else spec.devices
    if isinstance(devices, tuple):
        if missing := [index for index in devices if not 0 <= index < available]:
            raise ConfigError(FieldProblem("trainer.devices", f"got {missing}; the GPUs are 0 to {available - 1}"))
        return len(devices)
    if devices > available:
        raise ConfigError(FieldProblem("trainer.devices", f"got {devices}; this machine has {available}"))
    return devices


def require_nodes(spec: TrainerSpec) -> None:
    """Raise ConfigError if this run does not have as many nodes as the document says."""
    if spec.num_nodes != num_nodes():
        raise ConfigError(
            FieldProblem(
                "trainer.num_nodes",
                f"got {spec.num_nodes}, but this run was started on {num_nodes()} node(s); start the command below "
                f"`python -m pipelines.node_launcher` on {spec.num_nodes} nodes, or write {num_nodes()}",
            )
        )


def require_synced_batch_norm(spec: TrainerSpec) -> None:
    """Raise ConfigError if `sync_batchnorm` is set but not available on the device."""
    if spec.sync_batchnorm and accelerator_of(spec) == "cpu":
        raise ConfigError(
            FieldProblem(
                "trainer.sync_batchnorm",
                "got true on the CPU, where torch has no SyncBatchNorm; write false, or train on GPUs. Frozen stages "
                "(model.unfreeze) keep their statistics anyway, and model.neck.norm: none has no statistics",
            )
        )


def precision_of(spec: TrainerSpec) -> Precision:
    """Return the precision; `auto` is bf16-mixed if the device computes in bf16, else 32-true."""
    if spec.precision != "auto":
        return spec.precision
    if accelerator_of(spec) == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if computes_bfloat16() else "32-true"


def _strategy(spec: TrainerSpec) -> Strategy | str:
    if num_processes(spec) == 1:
        share_cores(1)
        return "auto"
    return LocalDDPStrategy()


class SyncedBatchNorm(TorchSyncBatchNorm):
    """Replaces BatchNorm by SyncBatchNorm when training starts, and keeps it, since both evaluate alike."""

    def apply(self, model: Module) -> Module:
        return synchronize_batch_norms(model)

    def revert(self, model: Module) -> Module:
        return model


def create_trainer(spec: TrainerSpec, callbacks: Sequence[Callback]) -> Trainer:
    """Return a trainer without Lightning's logger, checkpoints and progress bar; `callbacks` replace them."""
    options: dict[str, Any] = spec.model_dump(exclude=SET_HERE)
    devices = spec.devices if accelerator_of(spec) == "gpu" else processes_per_node(spec)
    is_synced = spec.sync_batchnorm and accelerator_of(spec) == "gpu"
    trainer = Trainer(
        **options,
        sync_batchnorm=is_synced,
        plugins=[Nodes(), *([SyncedBatchNorm()] if is_synced else [])],
        accelerator=accelerator_of(spec),
        devices=list(devices) if isinstance(devices, tuple) else devices,
        strategy=_strategy(spec),
        precision=precision_of(spec),
        deterministic="warn" if spec.deterministic else None,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    disable_signal_handlers(trainer)
    return trainer


def quiet_lightning() -> None:
    """Silence Lightning's information messages, and those warnings that do not apply."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*args parameter is intended to run from within Python.*",  # LightningCLI gets a validated document
        ".*does not have many workers.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*the logging interval.*",
        ".*in eval mode at the start of training.*",  # the norms of frozen stages
        ".*`srun` command is available.*",  # pipelines.nodes connects processes, also in a step of Slurm
    ):
        warnings.filterwarnings("ignore", message=message)
