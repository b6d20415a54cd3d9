"""Creation of a backbone from a name or a design."""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.base import LEVELS, Backbone, FeatureSpec
from backbones.catalog.checks import require_surgery
from backbones.catalog.lookup import resolve
from backbones.catalog.row import BackboneRow
from backbones.design_space.network import build_design_extractor
from backbones.feature_extractor import FeatureExtractor
from backbones.geometry import PROBE_HW, PYRAMID_STRIDES, lost_cells, stride_of
from backbones.layers import number_layers
from backbones.level_norms import level_norm
from backbones.meta_device import run_on_meta
from backbones.own_adapter import build_own_extractor
from backbones.spec.design import DesignSpec
from backbones.spec.surgery import NO_SURGERY, SurgerySpec
from backbones.stages import demote_unreached, discover_stages
from backbones.subsampling import subsample_first
from backbones.surgery.operations import apply_surgery, freeze_batch_norms, with_stochastic_depth
from backbones.surgery.reparameterize import fold_branches
from backbones.timm_adapter import build_timm_extractor
from backbones.torchvision_adapter import build_torchvision_extractor
from backbones.weights import WeightsReport, load_weights_file
from backbones.weights_sources.base import WeightsSource
from backbones.weights_sources.defaults import library_source, usable_source
from backbones.weights_sources.local_file import LocalFile


def create_backbone(
    network: str | DesignSpec, weights: str = "none", surgery: SurgerySpec = NO_SURGERY
) -> "TappedBackbone":
    """Return a network as a backbone, in train mode, on the CPU, with all parameters trainable.

    Args:
        network: the name of a catalog row, the name of a network in timm or torchvision, with or without `timm:` or
            `tv:`, or a design.
        weights: "none" (random), "default" (the row's pretrained weights) or the path of a local file.
        surgery: changes to the network; the weights are those of the unchanged network.

    Raises:
        ValueError: the name is unknown, the network has no maps with strides 8, 16 and 32, it does not support the
            surgery, or the weights are not available.
    """
    row = resolve(network)
    require_surgery(row, surgery)
    source = _source_of(row, weights)
    by_library = source is not None and source == library_source(row)
    changes = surgery.on_top_of(row.surgery)
    try:
        body = _build(with_stochastic_depth(row, changes), pretrained=by_library, surgery=changes)
        apply_surgery(body, changes)
        backbone = TappedBackbone(body, freeze_batchnorm=changes.freeze_batchnorm)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"backbone {row.name!r}: {error}") from error
    if source is None:
        return backbone
    backbone.weights_origin = source.description
    if not by_library:
        backbone.weights_report = _load(body, source, must_be_whole=weights == "default")
    return backbone


def _source_of(row: BackboneRow, weights: str) -> WeightsSource | None:
    if weights == "none":
        return None
    if weights != "default":
        return LocalFile(Path(weights))
    try:
        return usable_source(row)
    except ValueError as error:
        raise ValueError(f"weights: {error}") from error


def _load(body: FeatureExtractor, source: WeightsSource, *, must_be_whole: bool) -> WeightsReport:
    report = load_weights_file(body.network, source.provide(), body.rename)
    if must_be_whole and (report.missing or report.mis_shaped):
        raise ValueError(f"weights: {source.origin} does not fit the network: {report}")
    return report


def _build(row: BackboneRow, *, pretrained: bool, surgery: SurgerySpec) -> FeatureExtractor:
    if row.source == "timm":
        return build_timm_extractor(row, pretrained, surgery.upsampling)
    if row.source == "tv":
        return build_torchvision_extractor(row, pretrained)
    if row.source == "own":
        return build_own_extractor(row, surgery.upsampling)
    return build_design_extractor(row)


class TappedBackbone(Backbone):
    """A feature extractor's maps as the levels of a backbone: padded to full size, and normalized.

    If an architecture loses cells at the border (Inception, AlexNet), its maps are padded by replicating the border
    cells, half of them on each side. The maps of all levels then cover the same image, as a pyramid that upsamples
    requires, and the offset is 0 as for padded networks: the receptive field of a cell is centered inside that cell.

    Attributes:
        body: the feature extractor; `body.network` has the parameter names of its library.
        norms: the norm of each level; the identity for maps that the network has normalized itself.
    """

    def __init__(self, body: FeatureExtractor, *, freeze_batchnorm: bool = False) -> None:
        super().__init__()
        subsample_first(body)
        self.body = body
        self.mean = body.mean
        self.std = body.std
        self.weights_origin = None
        self.weights_report = None
        maps = run_on_meta(body, PROBE_HW).outputs
        strides = [stride_of(PROBE_HW, feature.shape[-2:]) for feature in maps]
        if tuple(strides) != PYRAMID_STRIDES:
            sizes = ", ".join("x".join(map(str, feature.shape[-2:])) for feature in maps)
            raise ValueError(
                f"for an image of {PROBE_HW[0]}x{PROBE_HW[1]} pixels its maps have {sizes} cells; a pyramid needs "
                "strides 8, 16, 32"
            )
        self.norms = nn.ModuleDict()
        self.feature_specs = {}
        self._pads: dict[str, tuple[int, int, int, int]] = {}
        for level, feature, stride in zip(LEVELS, maps, PYRAMID_STRIDES, strict=True):
            rows, columns = lost_cells(PROBE_HW, feature.shape[-2:], stride)
            self._pads[level] = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            self.norms[level] = level_norm(feature)
            self.feature_specs[level] = FeatureSpec(channels=feature.shape[1], stride=stride)
        # Freezing comes after `level_norm`, which does not recognize a frozen norm in the autograd graph.
        if freeze_batchnorm and not freeze_batch_norms(body):
            raise ValueError("surgery.freeze_batchnorm: the network has no BatchNorm; remove this setting")
        self._assign_stages_and_layers()

    def fold(self) -> None:
        """Replace the branches of each block with one convolution, permanently."""
        fold_branches(self.body.network)
        self._assign_stages_and_layers()

    def _assign_stages_and_layers(self) -> None:
        """Find the stage and the layer of every parameter."""
        self.stages = self.body.assign_stages(discover_stages(self))
        ranks = {f"body.network.{name}": rank for name, rank in self.body.layer_ranks().items()}
        self.layers = number_layers(ranks, self.stages)
        demote_unreached(self, self.stages)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return {"c3", "c4", "c5"}: (B, C, H / stride, W / stride), NCHW, finest first.

        Args:
            images: (B, 3, H, W), normalized with `mean` and `std`, of any size. They are padded with zeros on the right
                and bottom to multiples of 32; in the shapes above, H and W are the padded size.
        """
        images = F.pad(images, (0, -images.shape[-1] % 32, 0, -images.shape[-2] % 32))
        features = {}
        for level, feature in zip(LEVELS, self.body(images), strict=True):
            if any(self._pads[level]):
                feature = F.pad(feature, self._pads[level], mode="replicate")
            features[level] = self.norms[level](feature)
        return features
