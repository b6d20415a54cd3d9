"""Write a commented document for a data set. Torch-free."""

from typing import Any

from pipelines.data.drafting.choices import BOXES, CLASSES, Choices, DataFacts
from pipelines.data.drafting.source_document import SOURCE
from pipelines.formats.folder_contents import FolderReading
from pipelines.spec.edit import inline_yaml

COMMENT_COLUMN = 56


def write_document(
    reading: FolderReading, facts: DataFacts, choices: Choices, *, name: str, root: str, split_file: str | None
) -> str:
    """Return the document as YAML with comments.

    Args:
        reading: how the folder is read.
        facts: measured properties of the data.
        choices: settings of the training.
        name: of the job.
        root: `data.root`.
        split_file: of the source, if there is one.
    """
    task = BOXES if reading.has_boxes else CLASSES
    head, about_head = _head(reading, facts, choices)
    height, width = facts.size_hw
    entries: list[tuple[str, str]] = [
        ("", f"Written by `pyramidion init`. The format is {reading.format}:"),
        ("", f"{reading.reason}."),
        ("", f"{sum(facts.num_images.values())} images, {facts.num_labels} labels, {facts.num_classes} classes."),
        (f"name: {name}", ""),
        ("trainer:", ""),
        (f"  max_epochs: {choices.max_epochs}", f"about {choices.num_steps} steps; more is better until val drops"),
        ("model:", ""),
        ("  backbone:", ""),
        ("    name: resnet18", "`pyramidion backbones` lists the others"),
        ("    weights: none", "random; default: downloads pretrained ones, better for few images"),
        ("  neck: {norm: bn}", "BatchNorm helps networks that start from random weights"),
        ("  tasks:", ""),
        (f"    {task}: {inline_yaml(head)}", about_head),
        ("  optimizer: {lr: 1e-3}", "AdamW; use 3e-4 with pretrained weights"),
        (f"  schedule: {{warmup_steps: {choices.warmup_steps}}}", "then a cosine down to 1 percent"),
        ("  ema: {decay: 0.998}", "averaged weights are evaluated and exported"),
        ("data:", ""),
        (f"  root: {inline_yaml(root)}", "below --data-root, PYRAMIDION_DATA_ROOTS, or the working directory"),
        (f"  image_size: {choices.image_size}", f"longer side in pixels; the median image has {width} x {height}"),
        ("  augment: default", "none, light, default or strong; flips images: list operations if sides matter"),
        ("  sources:", ""),
        (f"    {SOURCE}:", ""),
        (f"      images: {inline_yaml(reading.images)}", "folder that the file names of images are relative to"),
        *_splits(reading, split_file),
    ]
    if facts.is_rotated:
        entries.append(("      exif: apply", "the labels refer to images rotated by their EXIF orientation"))
    layer = inline_yaml({"format": reading.format, **reading.fields, "tasks": [task]})
    entries += [
        ("      labels:", ""),
        (f"        - {layer}", ""),
        (f"      batch_size: {choices.batch_size}", "images per step; lower it if memory runs out"),
    ]
    return "".join(map(_line, entries))


def _line(entry: tuple[str, str]) -> str:
    text, comment = entry
    if not text:
        return f"# {comment}\n"
    return f"{text:<{COMMENT_COLUMN - 2}}  # {comment}\n" if comment else f"{text}\n"


def _head(reading: FolderReading, facts: DataFacts, choices: Choices) -> tuple[dict[str, Any], str]:
    if not reading.has_boxes:
        if facts.has_several_classes:
            return {"head": "multilabel"}, "an image has any number of classes"
        return {"head": "multiclass"}, "an image has exactly one class; multilabel: any number"
    if choices.finer_levels:
        return {
            "head": "fcos",
            "levels": ["p3", "p4", "p5"],
            "range_scale": 4,
        }, "half of the usual ranges: small objects"
    return {"head": "fcos"}, "finds boxes; retinanet and faster_rcnn are the other detection heads"


def _splits(reading: FolderReading, split_file: str | None) -> list[tuple[str, str]]:
    text = f"      splits: {inline_yaml(dict(reading.splits))}"
    if split_file is not None:
        return [
            (f"      split_file: {inline_yaml(split_file)}", "assigns every image to train, val or test"),
            (text, "the splits on disk that are read"),
        ]
    return [
        (
            text,
            "names of the splits on disk"
            if "val" in reading.splits
            else "names of the splits on disk; `pyramidion data split` makes others",
        )
    ]
