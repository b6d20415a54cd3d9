"""The properties of this machine that the rules of `recipe:finetune` use. Torch-free."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from backbones.catalog.lookup import resolve
from backbones.weights_sources.defaults import default_sources
from pipelines.base.cores import num_cores
from pipelines.base.memory import machine_bytes

NETWORKS = ("mobilenet_v2_tv", "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2", "resnet50")
"""Backbones to choose from, by their multiply-accumulates; with a short budget the second one is the first choice."""

PROBED_SIDE, PRODUCTS, PROBE_S = 64, 50, 0.1
"""Matrices of this side are multiplied by one thread; the clock is read after a number of products."""
TRAINING_SHARE = 0.2
"""Multiply-accumulates per second of a training, as a fraction of those of a product of matrices."""


@dataclass(frozen=True)
class Machine:
    """The properties of the machine that the rules use.

    Attributes:
        has_gpu: whether training uses a GPU.
        num_cores: of this process.
        memory_bytes: of the machine.
        networks: names of those of `NETWORKS` whose pretrained weights are on this machine.
        cpu_macs_per_s: multiply-accumulates of the backbone in a second of training with one core.
    """

    has_gpu: bool
    num_cores: int
    memory_bytes: int
    networks: frozenset[str]
    cpu_macs_per_s: float


def this_machine(*, has_gpu: bool) -> Machine:
    """Return the properties of this machine and the weights that it has."""
    at_hand = {name for name in NETWORKS if any(source.path() for source in default_sources(resolve(name)))}
    return Machine(has_gpu, num_cores(), machine_bytes(), frozenset(at_hand), measured_macs_per_s())


def measured_macs_per_s(clock: Callable[[], float] = time.process_time) -> float:
    """Return about how many multiply-accumulates of a backbone one core trains in a second.

    Args:
        clock: in seconds; the CPU time of this process does not depend on what else the machine does.
    """
    matrix = np.ones((PROBED_SIDE, PROBED_SIDE), dtype=np.float32)
    product = matrix @ matrix
    started, products = clock(), 0
    while (elapsed := clock() - started) < PROBE_S:
        for _ in range(PRODUCTS):
            np.matmul(matrix, matrix, out=product)
        products += PRODUCTS
    return TRAINING_SHARE * products * PROBED_SIDE**3 / elapsed
