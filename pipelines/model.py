"""The network that is trained, exported and served, as one nn.Module without Lightning.

Legend: B batch, H W size in pixels.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from backbones.base import LEVELS, Backbone
from backbones.create import create_backbone
from backbones.fpn import FPN
from backbones.stages import stages_of_modules
from backbones.surgery.norm_folding import fold_norms
from heads.base import Features, Head, LossTerms, Prediction, Target
from heads.calibration import calibrated
from heads.create import create_head
from heads.fast_convolution import WinogradConv2d, use_winograd
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import Category
from pipelines.spec.model import ModelSpec


class MultiTaskModel(nn.Module):
    """Backbone -> FPN -> heads.

    Tasks are sorted by name, so that the optimizer's state does not depend on their order in the document.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        neck: nn.Module,
        heads: Mapping[str, Head],
        *,
        boxes_from: Mapping[str, str],
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.heads = nn.ModuleDict({task: heads[task] for task in sorted(heads)})
        self.boxes_from = dict(boxes_from)
        self.frozen_parts: frozenset[str] = frozenset()
        self.is_folded = False
        self.is_compiled = False
        self.temperatures: dict[str, float] = {}
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1))
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        use_winograd(self)

    def features(self, images: Tensor) -> Features:
        """Return c3..c5 and p3..p7 of images (B, 3, H, W) uint8, H and W multiples of 32."""
        normalized = ((images.float() / 255 - self.mean) / self.std).contiguous(memory_format=self.memory_format)
        levels: dict[str, Tensor] = self.backbone(normalized)
        return {**levels, **self.neck(levels)}

    def loss(
        self,
        images: Tensor,
        targets: Mapping[str, Sequence[Target | None]],
        image_sizes_hw: Sequence[tuple[int, int]],
    ) -> dict[str, LossTerms]:
        """Return the loss terms of every task, over the images that are labeled for it.

        Every trainable parameter gets a gradient, which can be zero, for any combination of labels, so that DDP does
        not have to search for unused parameters.

        Args:
            images: (B, 3, H, W) uint8.
            targets: by task, B targets; None for an image that is not labeled for the task.
            image_sizes_hw: B sizes before padding.
        """
        return self.losses_of(self.features(images), targets, image_sizes_hw)

    def losses_of(
        self,
        features: Features,
        targets: Mapping[str, Sequence[Target | None]],
        image_sizes_hw: Sequence[tuple[int, int]],
    ) -> dict[str, LossTerms]:
        """Return the same as `loss`, given all levels."""
        losses = {task: self._task_loss(task, features, targets[task], image_sizes_hw) for task in self.heads}
        zero_of_all_levels: Tensor = _Zero.apply(*features.values())
        first = next(iter(losses.values()))
        term, (total, count) = next(iter(first.items()))
        first[term] = (total + zero_of_all_levels, count)
        return losses

    def _task_loss(
        self,
        task: str,
        features: Features,
        targets: Sequence[Target | None],
        image_sizes_hw: Sequence[tuple[int, int]],
    ) -> LossTerms:
        head = self._head(task)
        labeled = [b for b, target in enumerate(targets) if target is not None]
        if not labeled:
            return head.idle_loss()
        if len(labeled) < len(targets):
            features = {level: feature[labeled] for level, feature in features.items()}
        return head.loss(head(features), [targets[b] for b in labeled], [image_sizes_hw[b] for b in labeled])

    def _head(self, task: str) -> Head:
        head = self.heads[task]
        assert isinstance(head, Head)
        return head

    @torch.no_grad()
    def predict(
        self,
        images: Tensor,
        image_sizes_hw: Sequence[tuple[int, int]],
        boxes: Mapping[str, list[Tensor]] | None = None,
        tasks: Collection[str] | None = None,
    ) -> dict[str, list[Prediction]]:
        """Return B predictions by task; the scores of tasks with a temperature are calibrated by it.

        An embedding of objects embeds `boxes[task]` if given, otherwise the boxes that its detection task finds.

        Args:
            images: (B, 3, H, W) uint8.
            image_sizes_hw: sizes before padding.
            boxes: by task, B tensors of boxes xyxy (N, 4) in pixels of the network's input.
            tasks: names of the tasks to predict; all by default.
        """
        features = self.features(images)
        predictions: dict[str, list[Prediction]] = {}
        selected = [task for task in self.heads if tasks is None or task in tasks]
        for task in sorted(selected, key=lambda name: self._head(name).needs_boxes):
            head = self._head(task)
            given = (boxes or {}).get(task)
            if head.needs_boxes and given is None:
                given = self._detected(predictions[self.boxes_from[task]])
            decoded = head.decode(head(features), image_sizes_hw, given)
            temperature = self.temperatures.get(task)
            predictions[task] = decoded if temperature is None else [calibrated(p, temperature) for p in decoded]
        return predictions

    @staticmethod
    def _detected(predictions: Sequence[Prediction]) -> list[Tensor]:
        return [boxes for p in predictions if (boxes := p.object_boxes_xyxy) is not None]

    def fold(self) -> None:
        """Fold the backbone's branches permanently: predictions are equal up to rounding; training is not possible."""
        self.backbone.fold()
        self.is_folded = True
        self.to(memory_format=self.memory_format)
        use_winograd(self)

    def fold_norms(self) -> None:
        """Fold the norms of the backbone and the pyramid into the convolutions before them, for prediction only.

        Predictions stay the same up to rounding. The model is in eval mode, and can neither be trained nor exported.
        """
        self.eval()
        # A new module is in train mode, which the run that finds the norms would pass on to its layers.
        fold_norms(_Trunk(self.backbone, self.neck).eval(), WinogradConv2d)
        self.eval()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that are frozen, and have learning rates, as a whole: stages, `neck`, `heads.<task>`."""
        return (*LEVELS, "neck", *(f"heads.{task}" for task in self.heads))

    def part_of(self, name: str) -> str:
        """Return the part that a parameter belongs to."""
        owner, _, rest = name.partition(".")
        if owner == "backbone":
            return self.backbone.stages[rest]
        return f"heads.{rest.partition('.')[0]}" if owner == "heads" else owner

    def freeze(self, parts: frozenset[str]) -> None:
        """Freeze `parts` and make all other parts trainable.

        Parameters of frozen parts do not require a gradient, and `grad` is None. Their running statistics (of
        BatchNorm) do not change, also after `train()`. Dropout stays active there, since it does not change any state.

        Raises:
            ValueError: a part is unknown.
        """
        if unknown := sorted(parts.difference(self.parts)):
            raise ValueError(f"parts: got {unknown}; choose from {list(self.parts)}")
        self.frozen_parts = parts
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(self.part_of(name) not in parts)
            if not parameter.requires_grad:
                parameter.grad = None
        self.train(self.training)

    def train(self, mode: bool = True) -> "MultiTaskModel":
        super().train(mode)
        if mode and self.frozen_parts:
            for part, module in self.modules_with_statistics():
                module.train(part not in self.frozen_parts)
        return self

    def modules_with_statistics(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the modules that have running statistics, each with its part."""
        stages = stages_of_modules(self.backbone, self.backbone.stages)
        for name, module in self.named_modules():
            if any(buffer.startswith("running_") for buffer, _ in module.named_buffers(recurse=False)):
                owner, _, rest = name.partition(".")
                yield stages[rest] if owner == "backbone" else self.part_of(name), module


class _Trunk(nn.Module):
    """The layers that all tasks share."""

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels = self.backbone(images)
        return {**levels, **self.neck(levels)}


class _Zero(torch.autograd.Function):
    """0 as a float32 scalar, with a gradient of 0 for every argument.

    The gradient takes no memory, and the memory format of whatever is added to it. A sum over an element would have a
    contiguous gradient of the size of the map, with which the backward pass of channels_last layers takes longer.
    """

    @staticmethod
    def forward(ctx: Any, *features: Tensor) -> Tensor:
        ctx.features = [(feature.shape, feature.new_zeros(())) for feature in features]
        return torch.zeros((), device=features[0].device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(zero.expand(shape) for shape, zero in ctx.features)


def build_model(
    spec: ModelSpec,
    categories: Mapping[str, Sequence[Category]],
    *,
    class_weights: Mapping[str, Tensor] | None = None,
    weights: str = "none",
) -> MultiTaskModel:
    """Return a new network as `spec` describes it.

    Args:
        spec: the document's `model`.
        categories: by task, the classes (identities of an embedding) in the order of the labels.
        class_weights: by classification task, (K,).
        weights: of the backbone: `default`, the path of a file, or `none`, such as when a state dict is loaded later.

    Raises:
        ConfigError: the backbone cannot be built, the file does not fit it, or a task's name is reserved.
    """
    try:
        backbone = create_backbone(spec.backbone.network, weights, spec.backbone.surgery)
    except ValueError as error:
        raise ConfigError(FieldProblem("model.backbone", str(error))) from error
    neck = FPN(backbone.feature_specs, channels=spec.neck.channels, p6_from=spec.neck.p6_from, norm=spec.neck.norm)
    levels = {**backbone.feature_specs, **neck.feature_specs}
    heads = {
        name: create_head(
            task,
            level_specs=levels,
            num_classes=len(categories[name]),
            class_weights=(class_weights or {}).get(name),
        )
        for name, task in spec.tasks.items()
    }
    if reserved := sorted(name for name in spec.tasks if hasattr(nn.ModuleDict(), name)):
        raise ConfigError(
            FieldProblem(
                "model.tasks", f"got the names {reserved}, reserved by torch.nn.ModuleDict; rename these tasks"
            )
        )
    boxes_from = {name: source for name in spec.tasks if (source := spec.boxes_from(name)) is not None}
    return MultiTaskModel(backbone, neck, heads, boxes_from=boxes_from, channels_last=spec.channels_last)


def fold_as_configured(model: MultiTaskModel, spec: ModelSpec) -> None:
    """Fold a trained network for evaluation and export if the document asks for it."""
    if spec.backbone.surgery.reparameterize and not model.is_folded:
        model.fold()
