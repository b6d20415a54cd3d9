"""Surgery on built networks: places, unchanged parameters, and behavior before training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers.non_local_attn import NonLocalAttn
from torch import Tensor, nn

from backbones.base import LEVELS
from backbones.create import TappedBackbone, create_backbone
from backbones.meta_device import built_on_meta
from backbones.spec.surgery import SurgerySpec
from backbones.surgery.deformable import DeformableConv2d

ALL = ["c2", "c3", "c4", "c5"]


def backbone_of(name: str, **changes: Any) -> TappedBackbone:
    torch.manual_seed(0)
    return create_backbone(name, surgery=SurgerySpec.model_validate(changes))


def new_keys(name: str, **changes: Any) -> list[str]:
    """Return the modules that surgery adds to a network, in the order in which they run."""
    plain = {key for key, _ in backbone_of(name).body.network.named_modules()}
    changed = backbone_of(name, **changes)
    ran: list[str] = []
    for key, module in changed.body.network.named_modules():
        if key not in plain and key.rpartition(".")[0] in plain:
            module.register_forward_hook(lambda *_, key=key: ran.append(key))
    changed.eval()(torch.zeros(1, 3, 64, 64))
    return ran


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("gcnet50", 26_056_032), ("nlnet50", 25_609_792), ("dcn_resnet50", 24_379_295)],
)
def test_networks_with_attention_have_the_published_parameters(name: str, parameters: int) -> None:
    with built_on_meta():
        backbone = create_backbone(name)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters


def test_global_context_in_c3_to_c5_equals_the_detectors_of_the_paper() -> None:
    with built_on_meta():
        backbone = backbone_of("resnet50", attention=[{"kind": "gc"}])
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 26_029_773


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet14_thin", {"attention": [{"kind": "gc", "stages": ALL}], "deformable": ["c3", "c4", "c5"]}),
        ("resnet14_thin", {"attention": [{"kind": "nl", "stages": ["c4", "c5"], "position": "every_block"}]}),
        ("regnet_y_200mf", {"attention": [{"kind": "gc"}, {"kind": "nl"}], "deformable": ["c5"]}),
        ("mobilenet_v3_small", {"attention": [{"kind": "gc"}, {"kind": "nl", "position": "last_block"}]}),
        ("convnext_atto", {"attention": [{"kind": "gc"}]}),
    ],
)
def test_maps_are_unchanged_until_inserted_layers_are_trained(name: str, changes: dict[str, Any]) -> None:
    plain, changed = backbone_of(name).eval(), backbone_of(name, **changes).eval()
    # The last norm of a residual block starts at 0, which would hide the rest of the block.
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    changed.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = plain(images), changed(images)
    for level in LEVELS:
        torch.testing.assert_close(found[level], expected[level], rtol=1e-4, atol=1e-4)


def test_residual_attention_is_before_the_shortcut_of_every_block() -> None:
    gc = {"attention": [{"kind": "gc", "stages": ["c2", "c4"]}]}
    assert new_keys("resnet14_thin", **gc) == ["layer1.0.se", "layer3.0.se", "layer3.1.se"]
    branch = backbone_of("convnext_atto", **gc).body.network.get_submodule("stages.2.blocks.0.drop_path")
    assert [name for name, _ in branch.named_children()] == ["attention", "drop_path"]


def test_blocks_without_shortcut_get_no_residual_attention() -> None:
    found = new_keys("mobilenet_v3_small", attention=[{"kind": "gc", "stages": ["c4"]}])
    slots = [f"blocks.{block}.drop_path" for block in ("2.1", "2.2", "3.1")]
    assert found == [f"{slot}.{part}" for slot in slots for part in ("attention", "drop_path")]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("every_block", ["layer3.0_attention", "layer3.1_attention"]),
        ("before_last_block", ["layer3.0_attention"]),
        ("last_block", ["layer3.1_attention"]),
    ],
)
def test_separate_attention_runs_after_the_blocks_of_its_position(position: str, expected: list[str]) -> None:
    attention = [{"kind": "nl", "stages": ["c4"], "position": position}]
    assert new_keys("resnet14_thin", attention=attention) == expected


def test_separate_attention_has_the_layer_of_the_block_before() -> None:
    backbone = backbone_of("regnet_y_200mf", attention=[{"kind": "se", "stages": ["c5"], "position": "every_block"}])
    blocks = [name for name, _ in backbone.body.network.get_submodule("s4").named_children()]
    assert blocks[:4] == ["b1", "b1_attention", "b2", "b2_attention"]
    prefix = "body.network.s4.b2"
    assert backbone.layers[f"{prefix}_attention.fc1.weight"] == backbone.layers[f"{prefix}.conv1.conv.weight"]
    assert backbone.stages[f"{prefix}_attention.fc1.weight"] == "c5"


def test_two_groups_of_blocks_with_one_stride_share_a_level() -> None:
    """The blocks of MobileNetV3 at stride 16 are those of `blocks.2` and `blocks.3`."""
    nl = {"attention": [{"kind": "nl", "stages": ["c4"], "position": "every_block"}]}
    assert new_keys("mobilenet_v3_small", **nl) == [
        f"blocks.{key}_attention" for key in ("2.0", "2.1", "2.2", "3.0", "3.1")
    ]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("se_resnet50", {"attention": [{"kind": "gc"}]}, "layer2.0 already has attention before its shortcut"),
        ("repvgg_a0", {"attention": [{"kind": "gc"}]}, "the blocks in c3 have no place before the shortcut"),
        ("resnet14_thin", {"attention": [{"kind": "nl", "stages": ["c5"]}]}, "c5 has a single block; .*last_block"),
    ],
)
def test_missing_place_is_reported_with_alternatives(name: str, changes: dict[str, Any], message: str) -> None:
    with built_on_meta(), pytest.raises(ValueError, match=f"backbone '{name}': .*{message}"):
        backbone_of(name, **changes)


def test_last_3x3_convolution_of_a_block_becomes_deformable() -> None:
    deformable = backbone_of("resnet14_thin", deformable=["c4"]).body.network
    found = {name for name, module in deformable.named_modules() if isinstance(module, DeformableConv2d)}
    assert found == {"layer3.0.conv2", "layer3.1.conv2"}
    grouped = backbone_of("regnet_y_200mf", deformable=["c3"]).body.network.get_submodule("s2.b1.conv2.conv")
    assert isinstance(grouped, DeformableConv2d)
    assert (grouped.groups, grouped.stride) == (7, (2, 2))


def test_frozen_norms_keep_statistics_and_scales_in_training() -> None:
    plain = backbone_of("resnet14_thin")
    backbone = backbone_of("resnet14_thin", freeze_batchnorm=True, attention=[{"kind": "nl"}]).train()
    assert {type(norm) for norm in backbone.norms.values()} == {nn.Identity}, "a frozen norm is still a norm"
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    _train_a_step(backbone)
    frozen = {key for key, value in plain.named_parameters() if value.ndim == 1} | {
        key for key, _ in plain.named_buffers() if "running_" in key
    }
    after = backbone.state_dict()
    assert frozen
    assert all(torch.equal(after[key], before[key]) for key in frozen)
    assert frozen.isdisjoint(backbone.stages)
    moved = {key for key in backbone.stages if not torch.equal(after[key], before[key])}
    assert "body.network.layer3.0.downsample.0.weight" in moved


def test_norm_after_a_non_local_block_is_not_frozen() -> None:
    backbone = backbone_of("resnet14_thin", freeze_batchnorm=True, attention=[{"kind": "nl"}]).train()
    _train_a_step(backbone)
    (block,) = (module for module in backbone.modules() if isinstance(module, NonLocalAttn))
    assert bool((block.norm.weight != 0).any())


def test_frozen_norms_load_statistics_from_a_file(tmp_path: Path) -> None:
    plain = backbone_of("resnet14_thin")
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    torch.save(plain.body.network.state_dict(), tmp_path / "weights.pth")
    asked = SurgerySpec.model_validate({"freeze_batchnorm": True, "attention": [{"kind": "gc", "stages": ["c5"]}]})
    backbone = create_backbone("resnet14_thin", str(tmp_path / "weights.pth"), asked)
    report = backbone.weights_report
    assert report is not None
    assert (report.unexpected, report.mis_shaped) == ((), ())
    assert {key.partition(".se.")[0] for key in report.missing} == {"layer4.0"}
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), plain.eval()(images), rtol=1e-4, atol=1e-4)


def test_deformable_layers_train_under_bf16_autocast() -> None:
    backbone = backbone_of("resnet14_thin", deformable=["c4", "c5"]).train()
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(2):  # The norms after them start at 0.
            _train_a_step(backbone)
    offsets = [module.offset for module in backbone.modules() if isinstance(module, DeformableConv2d)]
    assert all(bool((offset.weight != 0).any()) for offset in offsets)


def _train_a_step(backbone: TappedBackbone) -> None:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    loss: Tensor = sum(
        (feature.float().pow(2).mean() for feature in backbone(torch.randn(2, 3, 64, 64)).values()), Tensor([0])
    )
    loss.backward()
    optimizer.step()
