"""Scores of exported networks on a split, beside those of the network in torch.

Legend: B images.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

from heads.base import Prediction
from heads.prediction_comparison import embeddings_of_labels
from pipelines.base.records import DatasetIndex, Split
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import Batch
from pipelines.evaluation.collect import Collector
from pipelines.evaluation.evaluate import evaluate_tasks
from pipelines.evaluation.metric_names import summarize
from pipelines.inference.network import Network
from pipelines.spec.model import ModelSpec

Predictions = Mapping[str, Sequence[Prediction]]
"""B predictions by task."""
Summary = dict[str, float | None]
"""Metrics by `<split>/<task>/<metric>`."""


def score_networks(
    networks: Sequence[Network],
    spec: ModelSpec,
    index: DatasetIndex,
    data: JobData,
    split: Split = "val",
    observe: Callable[[Sequence[Predictions]], None] | None = None,
) -> list[Summary]:
    """Return the metrics of each network; all of them predict the same batches, one network after the other.

    An embedding of objects is scored on labeled boxes, each with the embedding of the detection that overlaps it most,
    or a vector of zeros if none does: exported networks embed nothing but their own detections.

    Args:
        networks: with the tasks of `spec`.
        spec: `model` of the document.
        index: the labels.
        data: loaders of the images.
        split: to score.
        observe: is called with the predictions of all networks for each batch of the split.
    """
    collectors = [Collector(spec, index) for _ in networks]
    for collector in collectors:
        collector.begin(split)
    for number, loader in enumerate(data.evaluation_loaders(split)):
        is_gallery = number > 0
        tasks = sorted(spec.gallery_tasks) if is_gallery else sorted(spec.tasks)
        for batch in loader:
            found = [_predict(network, batch, tasks, spec) for network in networks]
            if observe is not None and not is_gallery:
                observe(found)
            for collector, predictions in zip(collectors, found, strict=True):
                own = {task: _of_labels(spec, task, predictions, batch) for task in tasks}
                collector.add(batch.infos, own, gallery=is_gallery)
    return [_summary(collector, spec, index, split) for collector in collectors]


def _predict(network: Network, batch: Batch, tasks: Sequence[str], spec: ModelSpec) -> Predictions:
    sources = {source for task in tasks if (source := spec.boxes_from(task)) is not None}
    return network.predict(batch.images, batch.image_sizes_hw, tasks=sorted({*tasks, *sources}))


def _of_labels(spec: ModelSpec, task: str, predictions: Predictions, batch: Batch) -> list[Prediction]:
    """Return the predictions of a task; a task that takes boxes gets one for each labeled box instead."""
    source = spec.boxes_from(task)
    if source is None:
        return list(predictions[task])
    nothing = torch.zeros(0, 4)
    adjusted: list[Prediction] = []
    for found, boxes, target in zip(predictions[task], predictions[source], batch.targets[task], strict=True):
        detected = boxes.object_boxes_xyxy
        labeled = None if target is None else target.object_boxes_xyxy
        adjusted.append(
            embeddings_of_labels(
                found, nothing if detected is None else detected, nothing if labeled is None else labeled
            )
        )
    return adjusted


def _summary(collector: Collector, spec: ModelSpec, index: DatasetIndex, split: Split) -> Summary:
    gathered = collector.gather()
    assert gathered is not None
    return summarize(split, evaluate_tasks(spec, index, split, *gathered))
