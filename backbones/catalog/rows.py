"""The networks that are vouched for. To add one, add a row: the contract tests run over all of them."""

from types import MappingProxyType

from backbones.catalog.row import BackboneRow, Source


def _family(
    family: str, year: int, paper: str, source: Source, licence: str | None, **ids: str
) -> dict[str, BackboneRow]:
    return {name: BackboneRow(name, source, id, family, year, paper, licence) for name, id in ids.items()}


_THIN_RESNET = MappingProxyType(
    {"layers": (1, 2, 2, 1), "channels": (32, 64, 128, 256), "stem_type": "deep", "stem_width": 8}
)

CATALOG: dict[str, BackboneRow] = {
    **_family(
        "ResNet",
        2015,
        "1512.03385",
        "timm",
        "apache-2.0",
        resnet18="resnet18.a1_in1k",
        resnet34="resnet34.a1_in1k",
        resnet50="resnet50.a1_in1k",
        resnet101="resnet101.a1h_in1k",
        resnet152="resnet152.a1h_in1k",
    ),
    "resnet14_thin": BackboneRow("resnet14_thin", "timm", "resnet18", "ResNet", 2015, "1512.03385", None, _THIN_RESNET),
    **_family("ResNetV2", 2016, "1603.05027", "timm", "apache-2.0", resnetv2_50="resnetv2_50.a1h_in1k"),
    **_family("Wide ResNet", 2016, "1605.07146", "timm", "apache-2.0", wide_resnet50_2="wide_resnet50_2.racm_in1k"),
    **_family("ResNeXt", 2016, "1611.05431", "timm", "apache-2.0", resnext50_32x4d="resnext50_32x4d.a1h_in1k"),
    **_family("SENet", 2017, "1709.01507", "timm", "apache-2.0", seresnet50="seresnet50.a1_in1k"),
    **_family(
        "ConvNeXt",
        2022,
        "2201.03545",
        "timm",
        "apache-2.0",
        convnext_atto="convnext_atto.d2_in1k",
        convnext_femto="convnext_femto.d1_in1k",
        convnext_pico="convnext_pico.d1_in1k",
        convnext_nano="convnext_nano.in12k_ft_in1k",
        convnext_tiny="convnext_tiny.in12k_ft_in1k",
        convnext_small="convnext_small.in12k_ft_in1k",
        convnext_base="convnext_base.fb_in22k_ft_in1k",
    ),
    **_family(
        "EfficientNet",
        2019,
        "1905.11946",
        "timm",
        "apache-2.0",
        efficientnet_b0="efficientnet_b0.ra_in1k",
        efficientnet_b1="efficientnet_b1.ra4_e3600_r240_in1k",
        efficientnet_b2="efficientnet_b2.ra_in1k",
        efficientnet_b3="efficientnet_b3.ra2_in1k",
        efficientnet_b4="efficientnet_b4.ra2_in1k",
    ),
    **_family("EfficientNetV2", 2021, "2104.00298", "tv", "bsd-3-clause", efficientnet_v2_s="efficientnet_v2_s"),
    **_family("RegNet", 2020, "2003.13678", "timm", "mit", regnet_x_200mf="regnetx_002.pycls_in1k"),
    **_family("RegNet", 2020, "2003.13678", "timm", "mit", regnet_y_200mf="regnety_002.pycls_in1k"),
    **_family("RegNet", 2020, "2003.13678", "timm", "bsd-3-clause", regnet_y_400mf="regnety_004.tv2_in1k"),
    **_family("DenseNet", 2016, "1608.06993", "timm", "apache-2.0", densenet121="densenet121.ra_in1k"),
    **_family("MobileNetV2", 2018, "1801.04381", "timm", "apache-2.0", mobilenet_v2="mobilenetv2_100.ra_in1k"),
    **_family(
        "MobileNetV3",
        2019,
        "1905.02244",
        "timm",
        "apache-2.0",
        mobilenet_v3_large="mobilenetv3_large_100.ra_in1k",
        mobilenet_v3_small="mobilenetv3_small_100.lamb_in1k",
    ),
    **_family("MnasNet", 2018, "1807.11626", "timm", "apache-2.0", mnasnet="mnasnet_100.rmsp_in1k"),
    **_family("ShuffleNetV2", 2018, "1807.11164", "tv", "bsd-3-clause", shufflenet_v2_x0_5="shufflenet_v2_x0_5"),
    **_family("Swin", 2021, "2103.14030", "timm", "mit", swin_tiny="swin_tiny_patch4_window7_224.ms_in1k"),
    **_family("VGG", 2014, "1409.1556", "timm", "bsd-3-clause", vgg16_bn="vgg16_bn.tv_in1k"),
    **_family("GoogLeNet", 2014, "1409.4842", "tv", "bsd-3-clause", googlenet="googlenet"),
    **_family("Inception v3", 2015, "1512.00567", "timm", "apache-2.0", inception_v3="inception_v3.tv_in1k"),
    **_family("RepVGG", 2021, "2101.03697", "timm", "mit", repvgg_a0="repvgg_a0.rvgg_in1k"),
    **_family("AlexNet", 2014, "1404.5997", "tv", "bsd-3-clause", alexnet="alexnet"),
}
"""By name. AlexNet is the form of its author's "one weird trick", GoogLeNet the form with BatchNorm."""
