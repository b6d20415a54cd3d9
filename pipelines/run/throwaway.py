"""Short trainings of a network that is thrown away, to measure how long the steps of a job take on this machine."""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer

from backbones.depthwise import compute_slow_depthwise_in_float32
from pipelines.base.records import DatasetIndex
from pipelines.data.loading.datamodule import JobData
from pipelines.model import MultiTaskModel
from pipelines.run.network import create_network
from pipelines.run_folder.schemas import RunPrecision
from pipelines.spec.job import JobSpec
from pipelines.spec.learning import OptimizerSpec
from pipelines.spec.transfer import frozen_parts
from pipelines.training.averaging import EMA
from pipelines.training.module import MultiTaskModule
from pipelines.training.run_length import MAX_EPOCHS
from pipelines.training.single_images import avoid_single_images
from pipelines.training.step_times import EvaluationTimes
from pipelines.training.strategy import share_cores
from pipelines.training.trainer import create_trainer, processes_per_node, quiet_lightning

NO_RATE = 1e-12
"""A learning rate with which steps take as long as with any other, and change nothing."""

EVALUATED_BATCHES = 3


class Throwaway:
    """Trains and evaluates networks of a job in this process alone, on one device and with the cores of one process.

    Nothing of the job is changed, and torch's, numpy's and Python's random numbers continue as if nothing had happened.

    Args:
        job: the document.
        index: its data.
        precision: of the run.
        clock: in seconds.
        network: returns a new network of the job; by default one with random weights.
    """

    def __init__(
        self,
        job: JobSpec,
        index: DatasetIndex,
        precision: RunPrecision,
        clock: Callable[[], float] = time.monotonic,
        network: Callable[[], MultiTaskModel] | None = None,
    ) -> None:
        self.job = _alone(job, precision)
        self.index = index
        self.precision = precision
        self.clock = clock
        self.network = network or (lambda: create_network(job, index))
        quiet_lightning()
        share_cores(processes_per_node(job.trainer))

    def train(
        self, callbacks: Sequence[Callback], rate: float = NO_RATE, *, frozen_as_in_last_epoch: bool = False
    ) -> None:
        """Train until a callback sets `trainer.should_stop`.

        Args:
            callbacks: follow the moving average, if the job has one.
            rate: the learning rate.
            frozen_as_in_last_epoch: freeze the parts that the job freezes in its last epoch; else all are trained.
        """
        optimizer: OptimizerSpec = self.job.model.optimizer.model_copy(update={"lr": rate})
        model = self.job.model.model_copy(update={"optimizer": optimizer})
        ema: list[Callback] = [EMA(model.ema)] if model.ema else []
        with self._parts([*ema, *callbacks]) as (trainer, network, data):
            trainer.limit_val_batches = 0
            avoid_single_images(network, self.job, data, 1)
            if frozen_as_in_last_epoch:
                assert model.unfreeze is not None
                network.freeze(frozen_parts(model, max(model.unfreeze)))
            module = MultiTaskModule(model, network, self.job.seed_everything)
            trainer.fit(module, datamodule=data)

    def seconds_per_image(self) -> float:
        """Return the seconds that one image takes in validation."""
        times = EvaluationTimes(self.clock)
        with self._parts([times]) as (trainer, network, data):
            trainer.limit_val_batches = EVALUATED_BATCHES
            module = MultiTaskModule(self.job.model, network, self.job.seed_everything)
            trainer.validate(module, dataloaders=data.loader("val"), verbose=False)
        return times.seconds_per_image or 0.0

    @contextmanager
    def _parts(self, callbacks: Sequence[Callback]) -> Iterator[tuple[Trainer, MultiTaskModel, JobData]]:
        with _random_numbers_kept():
            network = self.network()
            if self.precision.float32_depthwise:
                compute_slow_depthwise_in_float32(network)
            data = JobData(self.job.data, self.job.model.tasks, self.index, self.job.seed_everything)
            trainer = create_trainer(self.job.trainer, callbacks)
            try:
                yield trainer, network, data
            finally:
                # Data workers and memory of the device are released with the objects, which refer to each other.
                del trainer, network, data
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()


def _alone(job: JobSpec, precision: RunPrecision) -> JobSpec:
    """Return the job for one process, without what a short training cannot have."""
    devices = job.trainer.devices
    trainer: dict[str, Any] = {
        "devices": devices[:1] if isinstance(devices, tuple) else 1,
        "num_nodes": 1,
        "precision": precision.name,
        "max_epochs": MAX_EPOCHS,
        "limit_train_batches": None,
        "early_stopping": None,
        "sync_batchnorm": False,
        "compile": False,
    }
    return job.model_copy(
        update={
            "trainer": job.trainer.model_copy(update=trainer),
            "model": job.model.model_copy(update={"gradients_every_n_steps": 0}),
            "data": job.data.model_copy(update={"cache": "none"}),
        }
    )


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
