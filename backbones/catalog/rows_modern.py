"""Networks of the years of transformers."""

from backbones.catalog.family import family
from backbones.catalog.row import BackboneRow

CONVOLUTIONAL: dict[str, BackboneRow] = {
    **family(
        "RepVGG",
        2021,
        "2101.03697",
        "timm",
        "mit",
        is_equivariant=True,
        repvgg_a0="repvgg_a0.rvgg_in1k",
        repvgg_a1="repvgg_a1.rvgg_in1k",
        repvgg_a2="repvgg_a2.rvgg_in1k",
        repvgg_b0="repvgg_b0.rvgg_in1k",
        repvgg_b1="repvgg_b1.rvgg_in1k",
        repvgg_b2="repvgg_b2.rvgg_in1k",
        repvgg_b3="repvgg_b3.rvgg_in1k",
    ),
    **family(
        "MobileOne",
        2022,
        "2206.04040",
        "timm",
        "mobileone-license",
        is_equivariant=True,
        mobileone_s0="mobileone_s0.apple_in1k",
    ),
    **family(
        "ConvNeXt",
        2022,
        "2201.03545",
        "timm",
        "apache-2.0",
        is_equivariant=True,
        convnext_atto="convnext_atto.d2_in1k",
        convnext_femto="convnext_femto.d1_in1k",
        convnext_pico="convnext_pico.d1_in1k",
        convnext_nano="convnext_nano.in12k_ft_in1k",
        convnext_tiny="convnext_tiny.in12k_ft_in1k",
        convnext_small="convnext_small.in12k_ft_in1k",
        convnext_base="convnext_base.fb_in22k_ft_in1k",
        convnext_large="convnext_large.fb_in22k_ft_in1k",
    ),
}
"""RepVGG and MobileOne fold into one convolution a block."""

TRANSFORMERS: dict[str, BackboneRow] = {
    **family(
        "Swin",
        2021,
        "2103.14030",
        "timm",
        "mit",
        swin_tiny="swin_tiny_patch4_window7_224.ms_in1k",
        swin_small="swin_small_patch4_window7_224.ms_in22k_ft_in1k",
        swin_base="swin_base_patch4_window7_224.ms_in22k_ft_in1k",
    ),
}
"""Patches that look at each other."""
