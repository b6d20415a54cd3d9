"""Vision transformers and convolutional networks of the same years."""

from backbones.catalog.family import BATCHNORM, BLOCKS, Family
from backbones.catalog.row import BackboneRow
from backbones.spec.surgery import Operation

_FOLDING: tuple[Operation, ...] = (*BLOCKS, "reparameterize")
_WITH_LAYER_NORM: tuple[Operation, ...] = ("attention", "stochastic_depth")
_SINGLE_SCALE: tuple[Operation, ...] = ("stochastic_depth", "upsampling")

CONVOLUTIONAL: dict[str, BackboneRow] = {
    **Family("RepVGG", 2021, "2101.03697", "timm", "mit", _FOLDING, is_equivariant=True).rows(
        repvgg_a0="repvgg_a0.rvgg_in1k",
        repvgg_a1="repvgg_a1.rvgg_in1k",
        repvgg_a2="repvgg_a2.rvgg_in1k",
        repvgg_b0="repvgg_b0.rvgg_in1k",
        repvgg_b1="repvgg_b1.rvgg_in1k",
        repvgg_b2="repvgg_b2.rvgg_in1k",
        repvgg_b3="repvgg_b3.rvgg_in1k",
    ),
    **Family("MobileOne", 2022, "2206.04040", "timm", "mobileone-license", _FOLDING, is_equivariant=True).rows(
        mobileone_s0="mobileone_s0.apple_in1k",
    ),
    **Family("ConvNeXt", 2022, "2201.03545", "timm", "apache-2.0", _WITH_LAYER_NORM, is_equivariant=True).rows(
        convnext_atto="convnext_atto.d2_in1k",
        convnext_femto="convnext_femto.d1_in1k",
        convnext_pico="convnext_pico.d1_in1k",
        convnext_nano="convnext_nano.in12k_ft_in1k",
        convnext_tiny="convnext_tiny.in12k_ft_in1k",
        convnext_small="convnext_small.in12k_ft_in1k",
        convnext_base="convnext_base.fb_in22k_ft_in1k",
        convnext_large="convnext_large.fb_in22k_ft_in1k",
    ),
    **Family("ConvNeXt", 2022, "2201.03545", "own", None, ("upsampling",), is_equivariant=True).rows(
        convnext_isotropic="convnext_isotropic",
    ),
    **Family("ConvMixer", 2022, "2201.09792", "timm", "mit", BATCHNORM, is_equivariant=True).rows(
        convmixer="convmixer_768_32.in1k",
    ),
}
"""Convolutional networks. RepVGG and MobileOne can be folded into one convolution per block."""

TRANSFORMERS: dict[str, BackboneRow] = {
    **Family("ViT", 2020, "2010.11929", "timm", "apache-2.0", _SINGLE_SCALE).rows(
        vit_tiny="vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        vit_small="vit_small_patch16_224.augreg_in21k_ft_in1k",
        vit_base="vit_base_patch16_224.augreg2_in21k_ft_in1k",
    ),
    **Family("DeiT", 2020, "2012.12877", "timm", "apache-2.0", _SINGLE_SCALE).rows(
        deit_tiny="deit_tiny_patch16_224.fb_in1k",
        deit_small="deit_small_patch16_224.fb_in1k",
        deit_base="deit_base_patch16_224.fb_in1k",
    ),
    **Family("Swin", 2021, "2103.14030", "timm", "mit", ("stochastic_depth",)).rows(
        swin_tiny="swin_tiny_patch4_window7_224.ms_in1k",
        swin_small="swin_small_patch4_window7_224.ms_in22k_ft_in1k",
        swin_base="swin_base_patch4_window7_224.ms_in22k_ft_in1k",
    ),
}
"""Networks whose patches attend to each other."""
