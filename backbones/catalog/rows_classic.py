"""Hand-designed networks, from AlexNet to residual networks with attention."""

from types import MappingProxyType

from backbones.catalog.family import BATCHNORM, BLOCKS, RESIDUAL_BLOCKS, Family
from backbones.catalog.row import BackboneRow
from backbones.spec.surgery import AttentionSpec, SurgerySpec

_GLOBAL_CONTEXT = SurgerySpec(attention=(AttentionSpec(kind="gc", stages=("c2", "c3", "c4", "c5")),))
_NON_LOCAL = SurgerySpec(attention=(AttentionSpec(kind="nl", stages=("c4",), position="before_last_block"),))
_DEFORMABLE = SurgerySpec(deformable=("c3", "c4", "c5"))

_THIN_RESNET = MappingProxyType(
    {"layers": (1, 2, 2, 1), "channels": (32, 64, 128, 256), "stem_type": "deep", "stem_width": 8}
)

PLAIN: dict[str, BackboneRow] = {
    **Family("AlexNet", 2012, "10.1145/3065386", "own", None, is_equivariant=True).rows(
        alexnet2012="alexnet2012",
    ),
    **Family("AlexNet", 2014, "1404.5997", "tv", "bsd-3-clause", is_equivariant=True).rows(
        alexnet="alexnet",
    ),
    **Family("ZFNet", 2013, "1311.2901", "own", None, is_equivariant=True).rows(
        zfnet="zfnet",
        zfnet_wide="zfnet_wide",
    ),
    **Family("NiN", 2013, "1312.4400", "own", None, is_equivariant=True).rows(
        nin="nin",
    ),
    **Family("VGG", 2014, "1409.1556", "timm", "bsd-3-clause", is_equivariant=True).rows(
        vgg11="vgg11.tv_in1k",
        vgg13="vgg13.tv_in1k",
        vgg16="vgg16.tv_in1k",
        vgg19="vgg19.tv_in1k",
    ),
    **Family("VGG", 2014, "1409.1556", "timm", "bsd-3-clause", BATCHNORM, is_equivariant=True).rows(
        vgg11_bn="vgg11_bn.tv_in1k",
        vgg13_bn="vgg13_bn.tv_in1k",
        vgg16_bn="vgg16_bn.tv_in1k",
        vgg19_bn="vgg19_bn.tv_in1k",
    ),
    **Family("GoogLeNet", 2014, "1409.4842", "own", None, is_equivariant=True).rows(
        googlenet="googlenet",
    ),
    **Family("GoogLeNet", 2014, "1409.4842", "tv", "bsd-3-clause", BATCHNORM, is_equivariant=True).rows(
        googlenet_bn="googlenet",
    ),
    **Family("Inception v2", 2015, "1502.03167", "own", None, BATCHNORM, is_equivariant=True).rows(
        bn_inception="bn_inception",
    ),
    **Family("Inception v3", 2015, "1512.00567", "timm", "apache-2.0", BATCHNORM, is_equivariant=True).rows(
        inception_v3="inception_v3.tv_in1k",
    ),
}
"""Networks without residual connections. "alexnet" is the variant of the paper "One weird trick"; "googlenet" is the
original without BatchNorm."""

RESIDUAL: dict[str, BackboneRow] = {
    **Family("ResNet", 2015, "1512.03385", "timm", "apache-2.0", RESIDUAL_BLOCKS, is_equivariant=True).rows(
        resnet18="resnet18.a1_in1k",
        resnet34="resnet34.a1_in1k",
        resnet50="resnet50.a1_in1k",
        resnet101="resnet101.a1h_in1k",
        resnet152="resnet152.a1h_in1k",
    ),
    **Family(
        "ResNet", 2015, "1512.03385", "timm", None, RESIDUAL_BLOCKS, is_equivariant=True, kwargs=_THIN_RESNET
    ).rows(
        resnet14_thin="resnet18",
    ),
    **Family("ResNet v2", 2016, "1603.05027", "timm", "apache-2.0", RESIDUAL_BLOCKS, is_equivariant=True).rows(
        preresnet50="resnetv2_50.a1h_in1k",
    ),
    **Family("Wide ResNet", 2016, "1605.07146", "timm", "apache-2.0", RESIDUAL_BLOCKS, is_equivariant=True).rows(
        wide_resnet50="wide_resnet50_2.racm_in1k",
    ),
    **Family("ResNeXt", 2016, "1611.05431", "timm", "apache-2.0", RESIDUAL_BLOCKS, is_equivariant=True).rows(
        resnext50="resnext50_32x4d.a1h_in1k",
        resnext101="resnext101_32x4d.gluon_in1k",
    ),
    **Family("DenseNet", 2016, "1608.06993", "timm", "apache-2.0", BATCHNORM, is_equivariant=True).rows(
        densenet121="densenet121.ra_in1k",
        densenet169="densenet169.tv_in1k",
        densenet201="densenet201.tv_in1k",
    ),
    **Family("SENet", 2017, "1709.01507", "timm", "apache-2.0", RESIDUAL_BLOCKS).rows(
        se_resnet50="seresnet50.a1_in1k",
        senet154="senet154.gluon_in1k",
    ),
    **Family("NLNet", 2017, "1711.07971", "timm", "apache-2.0", RESIDUAL_BLOCKS, surgery=_NON_LOCAL).rows(
        nlnet50="resnet50.a1_in1k",
    ),
    **Family("GCNet", 2019, "1904.11492", "timm", "apache-2.0", RESIDUAL_BLOCKS, surgery=_GLOBAL_CONTEXT).rows(
        gcnet50="resnet50.a1_in1k",
    ),
    **Family("DCN v2", 2018, "1811.11168", "timm", "apache-2.0", BLOCKS, is_equivariant=True, surgery=_DEFORMABLE).rows(
        dcn_resnet50="resnet50.a1_in1k",
    ),
}
"""Networks whose blocks add their output to their input, or concatenate both. The last three are a ResNet-50 with
surgery, initialized from its weights."""
