"""Networks with few multiply-accumulates, and networks found by architecture search or scaling rules."""

from backbones.catalog.family import BATCHNORM, BLOCKS, RESIDUAL_BLOCKS, Family
from backbones.catalog.row import BackboneRow
from backbones.spec.surgery import Operation

_OF_TORCHVISION: tuple[Operation, ...] = (*BATCHNORM, "stochastic_depth")

MOBILE: dict[str, BackboneRow] = {
    **Family("MobileNet v1", 2017, "1704.04861", "timm", "apache-2.0", BLOCKS, is_equivariant=True).rows(
        mobilenet_v1="mobilenetv1_100.ra4_e3600_r224_in1k",
    ),
    **Family("MobileNet v2", 2018, "1801.04381", "timm", "apache-2.0", BLOCKS, is_equivariant=True).rows(
        mobilenet_v2="mobilenetv2_100.ra_in1k",
    ),
    **Family("MobileNet v2", 2018, "1801.04381", "timm", "bsd-3-clause", BLOCKS, is_equivariant=True).rows(
        mobilenet_v2_tv="mobilenetv2_100",
    ),
    **Family("MobileNet v3", 2019, "1905.02244", "timm", "apache-2.0", BLOCKS).rows(
        mobilenet_v3="mobilenetv3_large_100.ra_in1k",
        mobilenet_v3_small="mobilenetv3_small_100.lamb_in1k",
    ),
    **Family("ShuffleNet v2", 2018, "1807.11164", "tv", "bsd-3-clause", BATCHNORM, is_equivariant=True).rows(
        shufflenet_v2="shufflenet_v2_x1_0",
        shufflenet_v2_x0_5="shufflenet_v2_x0_5",
    ),
}
"""Networks of depthwise convolutions. "mobilenet_v3" is the large variant, "shufflenet_v2" has the width 1.0.
"mobilenet_v2_tv" has torchvision's first weights, with which many published models start."""

SEARCHED: dict[str, BackboneRow] = {
    **Family("NASNet", 2017, "1707.07012", "timm", "apache-2.0", BATCHNORM, is_equivariant=True).rows(
        nasnet_large="nasnetalarge.tf_in1k",
    ),
    **Family("MnasNet", 2018, "1807.11626", "timm", "apache-2.0", BLOCKS, is_equivariant=True).rows(
        mnasnet="mnasnet_100.rmsp_in1k",
    ),
    **Family("RegNet", 2020, "2003.13678", "timm", "mit", RESIDUAL_BLOCKS, is_equivariant=True).rows(
        regnet_x="regnetx_004.pycls_in1k",
        regnet_x_200mf="regnetx_002.pycls_in1k",
    ),
    **Family("RegNet", 2020, "2003.13678", "timm", "bsd-3-clause", RESIDUAL_BLOCKS).rows(
        regnet_y="regnety_004.tv2_in1k",
    ),
    **Family("RegNet", 2020, "2003.13678", "timm", "mit", RESIDUAL_BLOCKS).rows(
        regnet_y_200mf="regnety_002.pycls_in1k",
    ),
}
"""Networks found by search. "regnet_x" and "regnet_y" have 400 million multiply-accumulates."""

SCALED: dict[str, BackboneRow] = {
    **Family("EfficientNet", 2019, "1905.11946", "timm", "apache-2.0", BLOCKS).rows(
        efficientnet_b0="efficientnet_b0.ra_in1k",
        efficientnet_b1="efficientnet_b1.ra4_e3600_r240_in1k",
        efficientnet_b2="efficientnet_b2.ra_in1k",
        efficientnet_b3="efficientnet_b3.ra2_in1k",
        efficientnet_b4="efficientnet_b4.ra2_in1k",
        efficientnet_b5="efficientnet_b5.sw_in12k_ft_in1k",
    ),
    **Family("EfficientNet", 2019, "1905.11946", "timm", "apache-2.0", BLOCKS, is_equivariant=True).rows(
        tf_efficientnet_lite0="tf_efficientnet_lite0.in1k",
        tf_efficientnet_lite1="tf_efficientnet_lite1.in1k",
        tf_efficientnet_lite2="tf_efficientnet_lite2.in1k",
    ),
    **Family("EfficientNet", 2019, "1905.11946", "tv", "bsd-3-clause", _OF_TORCHVISION).rows(
        efficientnet_b6="efficientnet_b6",
        efficientnet_b7="efficientnet_b7",
    ),
    **Family("EfficientNet v2", 2021, "2104.00298", "tv", "bsd-3-clause", _OF_TORCHVISION).rows(
        efficientnet_v2_s="efficientnet_v2_s",
        efficientnet_v2_m="efficientnet_v2_m",
        efficientnet_v2_l="efficientnet_v2_l",
    ),
}
"""Networks scaled by one coefficient in depth, width and resolution. The last ones come from torchvision because timm
has no weights of them with symmetric padding. EfficientNet-Lite has neither squeeze-and-excitation nor SiLU; its
weights need TensorFlow's padding at the right and the bottom ("SAME"), which `tf_` in timm's names stands for."""
