"""Rows support the operations that they list: all of them are applied together, on the meta device."""

from typing import Any

import pytest
from timm.layers.drop import DropPath
from timm.layers.non_local_attn import NonLocalAttn
from torch import nn
from torchvision.ops import StochasticDepth

from backbones.catalog.rows import CATALOG
from backbones.create import TappedBackbone, create_backbone
from backbones.meta_device import built_on_meta
from backbones.spec.surgery import Operation, SurgerySpec
from backbones.surgery.deformable import DeformableConv2d

ASKED: dict[Operation, Any] = {
    "attention": [{"kind": "nl", "stages": ["c4", "c5"], "position": "last_block"}],
    "deformable": ["c3", "c4", "c5"],
    "freeze_batchnorm": True,
    "stochastic_depth": 0.25,
    "reparameterize": True,
    "upsampling": "interpolated",
}
QUICK = (
    "resnet14_thin",
    "preresnet50",
    "nlnet50",
    "se_resnet50",
    "shufflenet_v2_x0_5",
    "mobilenet_v1",
    "mobilenet_v3_small",
    "regnet_y_200mf",
    "repvgg_a0",
    "convnext_atto",
    "convmixer",
    "deit_tiny",
)
"""One row per kind of block and per builder; the many others are slow tests."""
TAKERS = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name, row in CATALOG.items() if row.takes
]


@pytest.mark.parametrize("name", TAKERS)
def test_row_supports_its_operations_and_keeps_its_keys(name: str) -> None:
    takes = CATALOG[name].takes
    surgery = SurgerySpec.model_validate({operation: ASKED[operation] for operation in takes})
    with built_on_meta():
        plain, changed = create_backbone(name), create_backbone(name, surgery=surgery)
    assert list(changed.stages) == [parameter for parameter, _ in changed.named_parameters()]
    shapes = {key: value.shape for key, value in changed.body.network.state_dict().items()}
    for key, value in plain.body.network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert shapes[key] == value.shape
    for operation in surgery.requested:
        DONE[operation](plain, changed)


def _attention(plain: TappedBackbone, changed: TappedBackbone) -> None:
    assert _count(changed, NonLocalAttn) == _count(plain, NonLocalAttn) + 2


def _deformable(_plain: TappedBackbone, changed: TappedBackbone) -> None:
    assert _count(changed, DeformableConv2d) >= 3


def _freeze_batchnorm(plain: TappedBackbone, changed: TappedBackbone) -> None:
    assert _count(plain, nn.BatchNorm2d) > _count(plain, NonLocalAttn)
    assert _count(changed, nn.BatchNorm2d) == _count(changed, NonLocalAttn)


def _stochastic_depth(_plain: TappedBackbone, changed: TappedBackbone) -> None:
    rates = [float(m.drop_prob) for m in changed.modules() if isinstance(m, DropPath)]
    rates += [float(m.p) for m in changed.modules() if isinstance(m, StochasticDepth)]
    assert max(rates) == pytest.approx(0.25, abs=0.05), "the last block may have no shortcut"


def _reparameterize(_plain: TappedBackbone, changed: TappedBackbone) -> None:
    with_branches = _count(changed, nn.Conv2d)
    changed.fold()
    assert _count(changed, nn.Conv2d) < with_branches
    assert list(changed.stages) == list(changed.layers) == [name for name, _ in changed.named_parameters()]


def _upsampling(plain: TappedBackbone, changed: TappedBackbone) -> None:
    assert (_count(plain, nn.ConvTranspose2d), _count(changed, nn.ConvTranspose2d)) == (1, 0)


def _count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


DONE = {
    "attention": _attention,
    "deformable": _deformable,
    "freeze_batchnorm": _freeze_batchnorm,
    "stochastic_depth": _stochastic_depth,
    "reparameterize": _reparameterize,
    "upsampling": _upsampling,
}
