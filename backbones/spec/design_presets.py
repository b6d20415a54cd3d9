"""Presets: published networks as fields of the design space. Torch-free.

The parameters include the paper's classifier for 1000 classes, except for nlnet50:

| preset | paper | parameters |
|---|---|---|
| resnet18, resnet34, resnet50 | He et al. 2015, 1512.03385, stride in the 3x3 | 11,689,512; 21,797,672; 25,557,032 |
| preresnet50 | He et al. 2016, 1603.05027 | 25,549,352 |
| resnext50 | Xie et al. 2016, 1611.05431, 32x4d | 25,028,904 |
| se_resnet50 | Hu et al. 2017, 1709.01507 | 28,088,024 |
| gcnet50 | Cao et al. 2019, 1904.11492, ratio 1/16 in all stages | 28,105,032 |
| nlnet50 | Wang et al. 2017, 1711.07971, one block in the third stage | 25,609,792 |
| densenet121 | Huang et al. 2016, 1608.06993 | 7,978,856 |
| mobilenet_v2 | Sandler et al. 2018, 1801.04381 | 3,504,872 |
| efficientnet_b0 | Tan & Le 2019, 1905.11946 | 5,288,548 |
| convnext_tiny, convnext_atto | Liu et al. 2022, 2201.03545; atto is timm's | 28,589,128; 3,695,520 |
"""

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]

_BASIC: Fields = {"widths": (64, 128, 256, 512)}
_RESNET50: Fields = {"depths": (3, 4, 6, 3), "widths": (64, 128, 256, 512), "ratio": 1 / 4}

_MOBILE: Fields = {
    "widths": (16, 24, 32, 64, 96, 160, 320),
    "depths": (1, 2, 3, 4, 3, 3, 1),
    "strides": (1, 2, 2, 2, 1, 2, 1),
    "stem": "3x3",
    "stem_width": 32,
    "order": "convnext",
    "groups": "depthwise",
    "ratio": (1, 6, 6, 6, 6, 6, 6),
    "ratio_of": "input",
    "activation": "relu6",
    "activations": 2,
    "projection": False,
}

_CONVNEXT: Fields = {
    "depths": (3, 3, 9, 3),
    "widths": (96, 192, 384, 768),
    "stem": "patchify",
    "order": "convnext",
    "groups": "depthwise",
    "kernel": 7,
    "ratio": 4,
    "mixing": "first",
    "norm": "ln",
    "norms": 1,
    "activation": "gelu",
    "downsampling": "separate",
    "layer_scale": 1e-6,
    "initialization": "truncated_normal",
}

PRESETS: Mapping[str, Fields] = {
    "resnet18": {**_BASIC, "depths": (2, 2, 2, 2)},
    "resnet34": {**_BASIC, "depths": (3, 4, 6, 3)},
    "resnet50": _RESNET50,
    "preresnet50": {**_RESNET50, "order": "pre"},
    "resnext50": {
        **_RESNET50,
        "widths": (128, 256, 512, 1024),
        "stem_width": 64,
        "ratio": 1 / 2,
        "groups": 32,
    },
    "se_resnet50": {**_RESNET50, "attention": {"kind": "se"}},
    "gcnet50": {**_RESNET50, "attention": {"kind": "gc"}},
    "nlnet50": {**_RESNET50, "attention": {"kind": "nl", "position": "before_last_block", "stages": (3,)}},
    "densenet121": {
        "depths": (6, 12, 24, 16),
        "order": "pre",
        "ratio": 4,
        "downsampling": "pool",
        "combination": "concatenate",
        "growth": 32,
    },
    "mobilenet_v2": _MOBILE,
    "efficientnet_b0": {
        **_MOBILE,
        "widths": (16, 24, 40, 80, 112, 192, 320),
        "depths": (1, 2, 2, 3, 3, 4, 1),
        "kernel": (3, 3, 5, 3, 5, 5, 3),
        "activation": "silu",
        # A quarter of the block's input channels; all blocks but the first have six times as many inner channels.
        "attention": {"kind": "se", "position": "mixing", "ratio": (1 / 4, *[1 / 24] * 6)},
    },
    "convnext_tiny": _CONVNEXT,
    "convnext_atto": {**_CONVNEXT, "depths": (2, 2, 6, 2), "widths": (40, 80, 160, 320)},
}
