"""Fine-tune FCOS of torchvision until a point in time, in a process of its own: a peer of `recipe:finetune`.

The settings are those of torchvision's reference training for FCOS: SGD with momentum, a learning rate in proportion
to the batch, a linear warm-up, two drops to a tenth after 16/26 and 22/26 of the run, horizontal flips, frozen
BatchNorm, a stem and a first stage that are not trained, and the last weights without a validation. The schedule
follows the time instead of epochs, so that it is always complete.

The backbone starts with the ImageNet weights of `recipe:finetune`. Pyramid and towers have its widths on a CPU: with
torchvision's own, a step takes 3.7 times as long, and one of its Faster R-CNN 6 times.
"""

import argparse
import json
import random
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_image
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from backbones.create import create_backbone
from backbones.spec.surgery import SurgerySpec

BACKBONE = "tf_efficientnet_lite0"
BATCH_SIZE = 4
REFERENCE_BATCH = 16
REFERENCE_RATE = 0.01
"""Learning rate of the reference for `REFERENCE_BATCH` images."""
WARMUP = 0.1
DROPS = (16 / 26, 22 / 26)
SCORE_THRESHOLD = 0.001
"""Lower than torchvision's own: after short trainings, scores are low, and AP counts detections of any score."""
MEASURED_IMAGES = 4
CHANNELS, NUM_CONVS = 96, 2

Target = dict[str, Tensor]


def rate_factor(progress: float) -> float:
    """Return the share of the learning rate after a share of the run: warm-up, then two drops to a tenth."""
    return float(min(1.0, max(progress, 1e-3) / WARMUP) * 0.1 ** sum(progress >= drop for drop in DROPS))


@dataclass(frozen=True)
class Images:
    """Decoded images (3, H, W) uint8 and their targets: boxes_xyxy (N, 4) and labels (N), the background being 0."""

    images: Sequence[Tensor]
    targets: Sequence[Target]

    @classmethod
    def read(cls, annotations: Path, folder: Path) -> "Images":
        """Read a COCO file; boxes without area and crowd regions are dropped, as in the reference."""
        document = json.loads(annotations.read_text("utf-8"))
        labels = {category["id"]: number + 1 for number, category in enumerate(document["categories"])}
        rows: dict[int, list[list[float]]] = {image["id"]: [] for image in document["images"]}
        for annotation in document["annotations"]:
            x, y, width, height = annotation["bbox"]
            if width > 0 and height > 0 and not annotation.get("iscrowd"):
                row = [x, y, x + width, y + height, labels[annotation["category_id"]]]
                rows[annotation["image_id"]].append(row)
        table = [torch.tensor(rows[image["id"]], dtype=torch.float32).reshape(-1, 5) for image in document["images"]]
        targets = [{"boxes": found[:, :4], "labels": found[:, 4].long()} for found in table]
        paths = [str(folder / image["file_name"]) for image in document["images"]]
        return cls([decode_image(path, ImageReadMode.RGB) for path in paths], targets)

    def batches(self, seed: int) -> Iterator[tuple[list[Tensor], list[Target]]]:
        """Yield batches without end, each epoch in another order, half of the images flipped."""
        order = random.Random(seed)
        queue: list[int] = []
        while True:
            while len(queue) < BATCH_SIZE:
                queue += order.sample(range(len(self.images)), len(self.images))
            chosen, queue = queue[:BATCH_SIZE], queue[BATCH_SIZE:]
            pairs = [flipped(self.images[i], self.targets[i], is_due=order.random() < 0.5) for i in chosen]
            yield [image / 255 for image, _ in pairs], [target for _, target in pairs]


def flipped(image: Tensor, target: Target, *, is_due: bool) -> tuple[Tensor, Target]:
    """Return an image (3, H, W) and its target, mirrored left to right if it is due."""
    if not is_due:
        return image, target
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    width = image.shape[-1]
    return image.flip(-1), target | {"boxes": torch.stack([width - x2, y1, width - x1, y2], 1)}


def build_detector(num_classes: int, size_hw: tuple[int, int]) -> FCOS:
    """Return torchvision's detector on the pretrained backbone.

    Args:
        num_classes: without the background.
        size_hw: of the network's input.
    """
    source = create_backbone(BACKBONE, "default", SurgerySpec(freeze_batchnorm=True))
    network: Any = source.body.network
    stages = [(f"stage{number}", stage) for number, stage in enumerate(network.blocks)]
    body = nn.Sequential(OrderedDict([("stem", network.conv_stem), ("norm", network.bn1), *stages]))
    # The stages 2, 4 and 6 end at the strides 8, 16 and 32; what precedes them at strides 2 and 4 is not trained.
    for child in (body.stem, body.norm, body.stage0, body.stage1):
        child.requires_grad_(False)
    levels = {"stage2": "0", "stage4": "1", "stage6": "2"}
    inputs = [spec.channels for spec in source.feature_specs.values()]
    return FCOS(
        BackboneWithFPN(body, levels, inputs, CHANNELS, LastLevelP6P7(CHANNELS, CHANNELS)),
        num_classes + 1,
        min_size=min(size_hw),
        max_size=max(size_hw),
        image_mean=list(source.mean),
        image_std=list(source.std),
        head=FCOSHead(CHANNELS, 1, num_classes + 1, NUM_CONVS),
        score_thresh=SCORE_THRESHOLD,
    )


def train(model: nn.Module, images: Images, rate: float, seed: int, ends_at: float) -> int:
    """Train until a time of `time.time`; return the number of steps."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=1e-4)
    model.train()
    started = time.time()
    for step, (batch, targets) in enumerate(images.batches(seed)):
        now = time.time()
        # Half a step too long is as likely as half a step too short.
        if now + 0.5 * (now - started) / max(1, step) >= ends_at:
            return step
        for group in optimizer.param_groups:
            group["lr"] = rate * rate_factor((now - started) / (ends_at - started))
        optimizer.zero_grad()
        losses: Tensor = sum(model(batch, targets).values())
        losses.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        print(f"step {step + 1}: loss {losses.item():.3f}, rate {optimizer.param_groups[0]['lr']:.2g}", flush=True)
    raise AssertionError("batches have no end")


@torch.inference_mode()
def detect(model: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Return the detections of each image."""
    model.eval()
    return [model([image / 255])[0] for image in images]


def to_coco(document: dict[str, Any], detections: Sequence[dict[str, Tensor]]) -> list[dict[str, Any]]:
    """Return COCO results from torchvision's detections, in the order of the document's images."""
    ids = [category["id"] for category in document["categories"]]
    rows = []
    for image, found in zip(document["images"], detections, strict=True):
        for (x1, y1, x2, y2), label, score in zip(
            found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
        ):
            place = {"image_id": image["id"], "category_id": ids[label - 1], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            rows.append({**place, "score": score})
    return rows


def main() -> None:
    """Train until the deadline, write `detections.json` (COCO results on test) and `counts.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder like BCCD's, with COCO files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--deadline", type=float, required=True, help="seconds of time.time() at which all is written")
    parser.add_argument("--rate-factor", type=float, default=1.0, help="multiplies the learning rate of the reference")
    parser.add_argument("--size", type=int, nargs=2, required=True, help="height and width in px")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    folder, annotations = options.data / "JPEGImages", options.data / "annotations"
    images, test = (Images.read(annotations / f"instances_{split}.json", folder) for split in ("train", "test"))
    document = json.loads((annotations / "instances_test.json").read_text("utf-8"))
    model = build_detector(len(document["categories"]), tuple(options.size))
    started = time.time()
    detect(model, test.images[:MEASURED_IMAGES])
    evaluation_s = (time.time() - started) / MEASURED_IMAGES * len(test.images)
    rate = options.rate_factor * REFERENCE_RATE * BATCH_SIZE / REFERENCE_BATCH
    print(f"evaluation of {len(test.images)} images: {evaluation_s:.1f} s", flush=True)
    num_steps = train(model, images, rate, options.seed, options.deadline - evaluation_s)
    rows = to_coco(document, detect(model, test.images))
    (options.out / "detections.json").write_text(json.dumps(rows), "utf-8")
    (options.out / "counts.json").write_text(json.dumps({"batches": num_steps, "images": num_steps * BATCH_SIZE}))


if __name__ == "__main__":
    main()
