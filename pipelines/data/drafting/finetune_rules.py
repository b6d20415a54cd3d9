"""The rules of `recipe:finetune`: pure functions of the data, the machine and the budget. Torch-free.

docs/finetuning.md lists every rule with its evidence. Sides of objects are in pixels of the network's input unless the
name says otherwise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backbones.catalog.facts import MEASURED_AT_PX, recorded_facts
from backbones.catalog.licenses import RANDOM_OR_FILE
from heads.spec import HEAD_SPECS
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.data.drafting.choices import SMALL_OBJECT, STEP_PX, DataFacts
from pipelines.data.drafting.machine import NETWORKS, Machine

TASK, EVERY_SOURCE = "TASK", "*"
"""Parts of the names of fields in a `Choice`."""

_HEAD = f"model.tasks.{TASK}.head"
_BATCH_SIZE = f"data.sources.{EVERY_SOURCE}.batch_size"

MIN_OBJECT_PX = 20
"""Side of an object of the class with the smallest objects."""
MIN_SIZE, MAX_SIZE = 224, 640
CLASSIFICATION_SIZE = 224
"""The size that the networks were pretrained with."""

GPU_MACS_PER_S = 1e12
"""Multiply-accumulates of the backbone in a second of training."""
TRAINING_FACTOR = 3
"""Multiply-accumulates of training, as a multiple of those of the forward pass."""
MIN_TRAINED_IMAGES = 10_000
"""A network is affordable if the budget trains it on this number of images."""

UNUSED_CHANNELS = 16
"""Width of a pyramid that no head reads, but which is computed."""
DEFAULT_DETECTIONS = 100
CPU_CONVS = 2
"""Convolutions of a tower on a CPU, where they cost more than the backbone."""
FREEZE_IMAGES = 100
"""Trained images below which the backbone is not trained."""
DEFAULT_EPOCHS, STRONG_EPOCHS = 10, 150
"""Passes over the data from which the presets `default` and `strong` are used."""
MANY_IMAGES = 1_000
RATE, RATE_BATCH = 1e-3, 4
"""Learning rate for a batch of this size."""
WARMUP_STEPS = 100
VALIDATION_SHARE = 0.1
MAX_CACHED_SHARE = 0.1
"""Part of the machine's memory for decoded images."""


@dataclass(frozen=True)
class Choice:
    """The result of a rule.

    Attributes:
        fields: values by the dotted name of the field, with `TASK` and `EVERY_SOURCE` for the names in the document.
        reason: why, for people.
    """

    fields: Mapping[str, Any]
    reason: str


def trained_images(network: str, size_hw: tuple[int, int], machine: Machine, budget_s: float) -> float:
    """Return about how many images of a size the budget trains a network on, each pass over the data counted."""
    macs = recorded_facts()[network].macs * size_hw[0] * size_hw[1] / MEASURED_AT_PX**2
    return budget_s * (GPU_MACS_PER_S if machine.has_gpu else machine.cpu_macs_per_s) / (TRAINING_FACTOR * macs)


def input_size(facts: DataFacts, longer_px: int) -> tuple[int, int]:
    """Return height and width of the median image with a longer side, padded as the network's input is."""
    scale = longer_px / max(facts.size_hw)
    return _padded(scale * facts.size_hw[0]), _padded(scale * facts.size_hw[1])


def _padded(side_px: float) -> int:
    return STEP_PX * max(1, math.ceil(round(side_px, 3) / STEP_PX))


def choose_image_size(facts: DataFacts) -> Choice:
    """Give the class with the smallest objects enough pixels, within the size of the images."""
    height, width = facts.size_hw
    longest = min(_padded(max(height, width)), MAX_SIZE)
    images = f"the median image has {width} x {height} px"
    if facts.small_object_px is None:
        size = min(CLASSIFICATION_SIZE, longest)
        why = "images are not enlarged" if size < CLASSIFICATION_SIZE else "the size of the backbone's pretraining"
        return Choice({"data.image_size": size}, f"{images}; {why}")
    needed = STEP_PX * round(MIN_OBJECT_PX * max(height, width) / facts.small_object_px / STEP_PX)
    size = min(max(needed, MIN_SIZE), longest)
    small = facts.small_object_px * size / max(height, width)
    return Choice({"data.image_size": size}, f"{images}; the smallest class has objects of {small:.0f} px then")


def choose_backbone(facts: DataFacts, longer_px: int, machine: Machine, budget_s: float) -> Choice:
    """Take the largest network with pretrained weights at hand that the budget trains on enough images.

    Raises:
        ConfigError: no such weights are on this machine.
    """
    at_hand = [name for name in NETWORKS if name in machine.networks]
    if not at_hand:
        raise ConfigError(
            FieldProblem(
                "model.backbone.name",
                f"is missing, and the pretrained weights of {', '.join(NETWORKS)} are not on this machine; install "
                f"pyramidion[weights], or name a network and {RANDOM_OR_FILE}",
            )
        )
    size_hw = input_size(facts, longer_px)
    numbers = {name: trained_images(name, size_hw, machine, budget_s) for name in at_hand}
    affordable = [name for name in at_hand if numbers[name] >= MIN_TRAINED_IMAGES]
    name = affordable[-1] if affordable else next((name for name in at_hand if name == NETWORKS[1]), at_hand[0])
    why = f"pretrained weights on this machine; the budget trains it on about {_rounded(numbers[name])} images"
    return Choice({"model.backbone.name": name, "model.backbone.weights": "default"}, why)


def _rounded(number: float) -> int:
    """Return a number with one significant digit."""
    return int(float(f"{number:.0e}"))


def choose_neck(facts: DataFacts, machine: Machine) -> Choice:
    """Take narrow pyramids on the CPU, where they and the towers of the head cost more than the backbone."""
    if facts.object_px is None:
        why = "hardly any, because classes of images are read from the backbone"
        return Choice({"model.neck.channels": UNUSED_CHANNELS, "model.neck.norm": "bn"}, why)
    channels = 256 if machine.has_gpu else 96
    why = "the width of the papers" if machine.has_gpu else "narrow, for the CPU"
    return Choice({"model.neck.channels": channels, "model.neck.norm": "bn"}, why)


def choose_boxes_head(facts: DataFacts, longer_px: int, machine: Machine, head: str = "fcos") -> Choice:
    """Choose the levels and their ranges or anchors by the median and the large (95th percentile) objects.

    Args:
        facts: of data with boxes.
        longer_px: of the network's input.
        machine: number of convolutions on a CPU.
        head: the detection head, if the user has chosen one.
    """
    assert facts.object_px is not None
    assert facts.large_object_px is not None
    scale = longer_px / max(facts.size_hw)
    median, large = scale * facts.object_px, scale * facts.large_object_px
    is_fine = median < SMALL_OBJECT
    reach = 4 if is_fine else 8
    # A location sees the farthest edge of a centered box at half its side.
    last = next((level for level in (5, 6) if 2 * reach * 2**level >= large), 7)
    settings: dict[str, Any] = {
        "levels": [f"p{level}" for level in range(3, last + 1)],
        "range_scale": reach,
        "anchor_scale": reach / 2,
        **({"center_sampling_radius": 0.75} if is_fine else {}),
        "score_threshold": 0.02,
    }
    known = HEAD_SPECS[head].model_fields
    if not machine.has_gpu and "num_convs" in known and known["num_convs"].default > CPU_CONVS:
        settings["num_convs"] = CPU_CONVS
    settings = {"head": head} | {name: value for name, value in settings.items() if name in known}
    if (number := 100 * math.ceil(1.5 * facts.max_objects / 100)) > DEFAULT_DETECTIONS:
        settings |= {"max_detections": number}
    why = f"median objects have {median:.0f} px, large ones {large:.0f} px, and an image at most {facts.max_objects}"
    return Choice({f"model.tasks.{TASK}.{name}": value for name, value in settings.items()}, why)


def choose_classes_head(facts: DataFacts) -> Choice:
    """Choose between exactly one class and any number of classes per image."""
    if facts.has_several_classes:
        return Choice({_HEAD: "multilabel"}, "images have several classes")
    return Choice({_HEAD: "multiclass"}, "every labeled image has one class")


def choose_batch_size(facts: DataFacts, machine: Machine) -> Choice:
    """Take small batches on the CPU, for many steps in a short time; a GPU is measured when the run starts."""
    if machine.has_gpu:
        return Choice({_BATCH_SIZE: "auto"}, "measured on the GPU when the run starts")
    number = facts.num_images.get("train", 0)
    size = 2 * RATE_BATCH if number >= MANY_IMAGES else RATE_BATCH
    while size > 2 and number < 4 * size:
        size //= 2
    why = f"{number} training images; on a CPU larger batches hardly train faster, and have fewer steps"
    return Choice({_BATCH_SIZE: size}, why)


def choose_learning_rate(batch_size: int | str) -> Choice:
    """Scale the rate of AdamW with the square root of the batch."""
    factor = math.sqrt(batch_size / RATE_BATCH) if isinstance(batch_size, int) else 2.0
    rate = float(f"{RATE * factor:.1e}")
    return Choice(
        {
            "model.optimizer.name": "adamw",
            "model.optimizer.lr": rate,
            "model.optimizer.weight_decay": 0.05,
            "model.schedule.warmup_steps": WARMUP_STEPS,
        },
        f"{RATE:g} for {RATE_BATCH} images, times the square root of the batch's ratio to it",
    )


def choose_transfer(num_trained: float) -> Choice:
    """Train the whole network, unless the budget only suffices for neck and head."""
    if num_trained < FREEZE_IMAGES:
        return Choice({"model.transfer": "freeze"}, "the budget is too short to train the backbone")
    return Choice({"model.transfer": "full"}, "the best or within noise of the best on every set that was measured")


def choose_augmentation(num_epochs: float) -> Choice:
    """Augment more strongly the more often an image is seen."""
    preset = "light" if num_epochs < DEFAULT_EPOCHS else "default" if num_epochs < STRONG_EPOCHS else "strong"
    return Choice(
        {"data.augment": preset}, f"the budget suffices for about {_rounded(num_epochs)} passes over the data"
    )


def choose_average() -> Choice:
    """Average the weights over a share of the run, whatever its length."""
    return Choice({"model.ema.horizon": 0.05}, "averages over about 5 % of the run")


def choose_validation(facts: DataFacts) -> Choice:
    """Validate so rarely that it takes about a tenth of the time of training."""
    number, evaluated = facts.num_images.get("train", 0), facts.num_images.get("val", 0)
    every = math.ceil(evaluated / TRAINING_FACTOR / max(1.0, VALIDATION_SHARE * number))
    every = min(max(every, 1), 5)
    return Choice({"trainer.check_val_every_n_epoch": every}, f"{evaluated} images of val, {number} of train")


def choose_loading(facts: DataFacts, machine: Machine) -> Choice:
    """Keep decoded images in memory if they are few, and use data workers only beside a GPU."""
    decoded = 3 * facts.size_hw[0] * facts.size_hw[1] * sum(facts.num_images.values())
    cache = "ram" if decoded <= MAX_CACHED_SHARE * machine.memory_bytes else "none"
    workers = min(8, max(0, machine.num_cores - 1)) if machine.has_gpu and cache == "none" else 0
    why = f"decoded images need {decoded / 2**20:.0f} MiB"
    why += "" if workers else "; workers would take cores or memory from training"
    return Choice({"data.cache": cache, "data.num_workers": workers}, why)


def choose_all(
    facts: DataFacts,
    machine: Machine,
    budget_s: float,
    *,
    head: str | None = None,
    network: str | None = None,
    longer_px: int | None = None,
    batch_size: int | str | None = None,
) -> list[Choice]:
    """Return the results of all rules, in the order in which they depend on each other.

    Args:
        facts: measured properties of the data.
        machine: where the run is started.
        budget_s: wall time of the run.
        head: the detection head that the user has chosen.
        network: the backbone that the user has chosen.
        longer_px: the size of the images that the user has chosen.
        batch_size: that the user has chosen.

    Raises:
        ConfigError: as `choose_backbone`.
    """
    size = choose_image_size(facts)
    longer_px = longer_px or int(size.fields["data.image_size"])
    backbone = [] if network else [choose_backbone(facts, longer_px, machine, budget_s)]
    name = network or backbone[0].fields["model.backbone.name"]
    # A network that was not measured counts as the default one.
    known = name if name in recorded_facts() else NETWORKS[1]
    number = trained_images(known, input_size(facts, longer_px), machine, budget_s)
    batch = choose_batch_size(facts, machine)
    if facts.object_px is None:
        task = choose_classes_head(facts)
    else:
        task = choose_boxes_head(facts, longer_px, machine, head or "fcos")
    return [
        size,
        *backbone,
        choose_neck(facts, machine),
        task,
        choose_transfer(number),
        choose_learning_rate(batch_size or batch.fields[_BATCH_SIZE]),
        choose_average(),
        batch,
        choose_augmentation(number / max(1, facts.num_images.get("train", 0))),
        choose_validation(facts),
        choose_loading(facts, machine),
    ]
