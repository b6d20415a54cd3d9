"""Stage discovery on a small network with known stages."""

import torch
from torch import Tensor, nn

from backbones.stages import demote_unreached, discover_stages, stages_of_modules


class _NetworkWithSharedScale(nn.Module):
    """A stem, three blocks, a scale that c3 and c5 share, a layer with unused output and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, stride=2, padding=1) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(1))
        self.late_scale = nn.Parameter(torch.ones(1))
        self.norm_c3 = nn.BatchNorm2d(4)
        self.in_vain = nn.Conv2d(4, 4, 1)
        self.auxiliary = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> list[Tensor]:
        c3 = self.blocks[0](self.stem(images)) * self.scale
        self.in_vain(c3)
        c4 = self.blocks[1](c3)
        c5 = self.blocks[2](c4) * self.scale * self.late_scale
        return [self.norm_c3(c3), c4, c5]


def test_parameter_belongs_to_the_first_level_that_it_reaches() -> None:
    assert discover_stages(_NetworkWithSharedScale()) == {
        "scale": "c3",
        "late_scale": "c5",
        "stem.weight": "c3",
        "stem.bias": "c3",
        "blocks.0.weight": "c3",
        "blocks.0.bias": "c3",
        "blocks.1.weight": "c4",
        "blocks.1.bias": "c4",
        "blocks.2.weight": "c5",
        "blocks.2.bias": "c5",
        "norm_c3.weight": "c3",
        "norm_c3.bias": "c3",
    }


def test_parameters_that_reach_no_level_become_buffers() -> None:
    toy = _NetworkWithSharedScale()
    stages = discover_stages(toy)
    demote_unreached(toy, stages)
    assert {name for name, _ in toy.named_parameters()} == set(stages)
    assert not any(name.startswith(("in_vain", "auxiliary")) for name in toy.state_dict())
    assert len(toy(torch.zeros(1, 3, 64, 64))) == 3


def test_discovery_does_not_change_weights_statistics_or_mode() -> None:
    toy = _NetworkWithSharedScale()
    before = {name: value.clone() for name, value in toy.state_dict().items()}
    discover_stages(toy)
    assert toy.training
    assert all(parameter.device.type == "cpu" for parameter in toy.parameters())
    for name, value in toy.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_module_without_parameters_has_the_stage_of_its_surroundings() -> None:
    """If its surroundings span several stages, it has the stage of the parameter defined before it."""
    network = nn.ModuleDict(
        {
            "input_norm": nn.BatchNorm2d(3, affine=False),
            "stem": nn.Conv2d(3, 4, 1),
            "block": nn.Sequential(nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.Conv2d(4, 4, 1)),
            "norm": nn.BatchNorm2d(4, affine=False),
            "last": nn.Conv2d(4, 4, 1),
        }
    )
    stages = {"stem.weight": "c3", "stem.bias": "c3", "block.2.weight": "c4", "block.2.bias": "c4"}
    found = stages_of_modules(network, stages | {"last.weight": "c5", "last.bias": "c5"})
    assert {name: found[name] for name in ("input_norm", "block.0", "block.1", "norm", "last")} == {
        "input_norm": "c3", "block.0": "c4", "block.1": "c4", "norm": "c4", "last": "c5",
    }  # fmt: skip
