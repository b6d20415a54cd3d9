"""Create the sampler of a job's training from its document and records."""

from collections.abc import Collection, Mapping, Sequence
from typing import cast

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.records import ImageRecord
from pipelines.data.dataset.image_labels import classes_of, identities_of
from pipelines.data.loading.sampling.aspect import AspectGroups
from pipelines.data.loading.sampling.identities import PKSource
from pipelines.data.loading.sampling.images import ImageSource, Order, Repeated, Shuffled, repeat_factors
from pipelines.data.loading.sampling.mixing import Concatenated, InProportion, Interleaved, Mix
from pipelines.data.loading.sampling.sources import Source
from pipelines.data.loading.sampling.training import MultiScale, TrainBatchSampler
from pipelines.spec.data import DataSpec, PKSpec, RepeatFactorSpec, SourceSpec


def create_train_sampler(
    spec: DataSpec,
    tasks: Collection[str],
    records: Sequence[ImageRecord],
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    max_epochs: int | None = None,
    min_batch: int = 1,
) -> TrainBatchSampler:
    """Return the sampler of the records of the train split; records without labels for any task are not drawn.

    Args:
        spec: `data` of the document.
        tasks: names of the model's tasks.
        records: the records of the train split.
        seed: seed of all draws.
        rank: the rank whose share is drawn.
        world_size: number of ranks.
        max_epochs: number of epochs of the training, which decides which are the last ones; None: it is unknown.
        min_batch: a last batch with fewer images of a rank is joined with the one before.

    Raises:
        DataError: no image is labeled, or there are fewer identities than a batch of a `pk` sampler needs.
    """
    indices: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        if not record.labels.keys().isdisjoint(tasks):
            indices.setdefault(record.source, []).append(position)
    if not indices:
        raise DataError(FieldProblem("data.sources", "no image of the train split is labeled for any task"))
    sources = {}
    for number, name in enumerate(sorted(indices)):
        try:
            sources[name] = _source(
                spec.sources[name],
                indices[name],
                records,
                seed=seed,
                source=number,
                world_size=world_size,
                min_batch=min_batch,
            )
        except ValueError as error:
            raise DataError(FieldProblem(f"data.sources.{name}.sampler", str(error))) from error
    sizes = spec.train_image_sizes()
    return TrainBatchSampler(
        _mix(spec, sources, seed),
        rank=rank,
        multi_scale=None if sizes is None else MultiScale(sizes, seed),
        num_combining_epochs=None if max_epochs is None else spec.num_combining_epochs(max_epochs),
    )


def _source(
    spec: SourceSpec,
    indices: list[int],
    records: Sequence[ImageRecord],
    *,
    seed: int,
    source: int,
    world_size: int,
    min_batch: int,
) -> Source:
    match spec.sampler:
        case PKSpec(task=task, p=p, k=k):
            images: dict[str, list[int]] = {}
            for index in indices:
                for identity in identities_of(records[index], task):
                    images.setdefault(identity, []).append(index)
            return PKSource(images, p, k, seed=seed, source=source, world_size=world_size)
        case RepeatFactorSpec(task=task, threshold=threshold):
            factors = repeat_factors([classes_of(records[index], task) for index in indices], threshold)
            order: Order = Repeated(indices, factors, seed=seed, source=source)
        case _:
            order = Shuffled(indices, seed=seed, source=source)
    is_grouped = spec.sampler.group_by_aspect
    aspect_groups = AspectGroups(records, seed=seed, source=source) if is_grouped else None
    return ImageSource(order, spec.images_per_batch, world_size, aspect_groups, min_batch=min_batch)


def _mix(spec: DataSpec, sources: Mapping[str, Source], seed: int) -> Mix:
    match spec.mix:
        case "interleave":
            return Interleaved(sources, seed)
        case "concat":
            return Concatenated(cast("Mapping[str, ImageSource]", sources), seed)
        case "proportional":
            return InProportion(sources, seed)
        case "temperature":
            return InProportion(sources, seed, spec.temperature)
