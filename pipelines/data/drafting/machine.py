"""The properties of this machine that the rules of `recipe:finetune` use. Torch-free."""

from dataclasses import dataclass

from backbones.catalog.lookup import resolve
from backbones.weights_sources.defaults import default_sources
from pipelines.base.cores import num_cores
from pipelines.base.memory import machine_bytes

NETWORKS = ("mobilenet_v2_tv", "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2", "resnet50")
"""Backbones to choose from, by their multiply-accumulates; with a short budget the second one is the first choice."""


@dataclass(frozen=True)
class Machine:
    """The properties of the machine that the rules use.

    Attributes:
        has_gpu: whether training uses a GPU.
        num_cores: of this process.
        memory_bytes: of the machine.
        networks: names of those of `NETWORKS` whose pretrained weights are on this machine.
    """

    has_gpu: bool
    num_cores: int
    memory_bytes: int
    networks: frozenset[str]


def this_machine(*, has_gpu: bool) -> Machine:
    """Return the properties of this machine and the weights that it has."""
    at_hand = {name for name in NETWORKS if any(source.path() for source in default_sources(resolve(name)))}
    return Machine(has_gpu, num_cores(), machine_bytes(), frozenset(at_hand))
