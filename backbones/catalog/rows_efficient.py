"""Networks made for few multiply-accumulates, and those that a search or a rule of scaling found."""

from backbones.catalog.family import BATCHNORM, BLOCKS, RESIDUAL_BLOCKS, family
from backbones.catalog.row import BackboneRow

MOBILE: dict[str, BackboneRow] = {
    **family(
        "MobileNet v1",
        2017,
        "1704.04861",
        "timm",
        "apache-2.0",
        takes=BLOCKS,
        is_equivariant=True,
        mobilenet_v1="mobilenetv1_100.ra4_e3600_r224_in1k",
    ),
    **family(
        "MobileNet v2",
        2018,
        "1801.04381",
        "timm",
        "apache-2.0",
        takes=BLOCKS,
        is_equivariant=True,
        mobilenet_v2="mobilenetv2_100.ra_in1k",
    ),
    **family(
        "MobileNet v3",
        2019,
        "1905.02244",
        "timm",
        "apache-2.0",
        takes=BLOCKS,
        mobilenet_v3="mobilenetv3_large_100.ra_in1k",
        mobilenet_v3_small="mobilenetv3_small_100.lamb_in1k",
    ),
    **family(
        "ShuffleNet v2",
        2018,
        "1807.11164",
        "tv",
        "bsd-3-clause",
        takes=BATCHNORM,
        is_equivariant=True,
        shufflenet_v2="shufflenet_v2_x1_0",
        shufflenet_v2_x0_5="shufflenet_v2_x0_5",
    ),
}
"""Depthwise convolutions. MobileNet v3 is the large one, ShuffleNet v2 that of width 1.0."""

SEARCHED: dict[str, BackboneRow] = {
    **family("NASNet", 2017, "1707.07012", "timm", "apache-2.0", takes=BATCHNORM, nasnet_large="nasnetalarge.tf_in1k"),
    **family(
        "MnasNet",
        2018,
        "1807.11626",
        "timm",
        "apache-2.0",
        takes=BLOCKS,
        is_equivariant=True,
        mnasnet="mnasnet_100.rmsp_in1k",
    ),
    **family(
        "RegNet",
        2020,
        "2003.13678",
        "timm",
        "mit",
        takes=RESIDUAL_BLOCKS,
        is_equivariant=True,
        regnet_x="regnetx_004.pycls_in1k",
        regnet_x_200mf="regnetx_002.pycls_in1k",
    ),
    **family(
        "RegNet", 2020, "2003.13678", "timm", "bsd-3-clause", takes=RESIDUAL_BLOCKS, regnet_y="regnety_004.tv2_in1k"
    ),
    **family(
        "RegNet", 2020, "2003.13678", "timm", "mit", takes=RESIDUAL_BLOCKS, regnet_y_200mf="regnety_002.pycls_in1k"
    ),
}
"""Found in a space of networks. RegNet X and Y are those of 400 million multiply-accumulates."""

SCALED: dict[str, BackboneRow] = {
    **family(
        "EfficientNet",
        2019,
        "1905.11946",
        "timm",
        "apache-2.0",
        takes=BLOCKS,
        efficientnet_b0="efficientnet_b0.ra_in1k",
        efficientnet_b1="efficientnet_b1.ra4_e3600_r240_in1k",
        efficientnet_b2="efficientnet_b2.ra_in1k",
        efficientnet_b3="efficientnet_b3.ra2_in1k",
        efficientnet_b4="efficientnet_b4.ra2_in1k",
        efficientnet_b5="efficientnet_b5.sw_in12k_ft_in1k",
    ),
    **family(
        "EfficientNet",
        2019,
        "1905.11946",
        "tv",
        "bsd-3-clause",
        takes=(*BATCHNORM, "stochastic_depth"),
        efficientnet_b6="efficientnet_b6",
        efficientnet_b7="efficientnet_b7",
    ),
    **family(
        "EfficientNet v2",
        2021,
        "2104.00298",
        "tv",
        "bsd-3-clause",
        takes=(*BATCHNORM, "stochastic_depth"),
        efficientnet_v2_s="efficientnet_v2_s",
        efficientnet_v2_m="efficientnet_v2_m",
        efficientnet_v2_l="efficientnet_v2_l",
    ),
}
"""Depth, width and resolution grow by one coefficient. timm has no weights of the last ones with symmetric padding."""
