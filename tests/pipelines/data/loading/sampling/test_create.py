"""Samplers are created from the document and the records; test_datamodule.py tests loaders that use them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import DataError
from pipelines.base.records import BoxLabel, ImageRecord
from pipelines.data.loading.sampling.create import create_train_sampler
from pipelines.spec.data import DataSpec
from pipelines.spec.tasks import Task
from pipelines.tasks.classification.spec import MultilabelSpec
from pipelines.tasks.detection.spec import FCOSSpec
from pipelines.tasks.embedding.spec import EmbeddingSpec

TASKS: dict[str, Task] = {
    "cells": FCOSSpec(head="fcos"),
    "lookup": EmbeddingSpec(head="embedding", of="objects"),
    "scene": EmbeddingSpec(head="embedding", of="image"),
    "signs": MultilabelSpec(head="multilabel"),
}
LAYER = {"format": "coco", "path": "x.json", "tasks": list(TASKS)}


def box(category: str, identity: str | None = None, *, is_crowd: bool = False) -> BoxLabel:
    return BoxLabel(1, category, (4.0, 4.0, 20.0, 16.0), identity=identity, is_crowd=is_crowd)


def records_of(*labels: dict[str, Any], source: str = "a") -> list[ImageRecord]:
    """Return one image for each entry, numbered from 1 in each source."""
    return [
        ImageRecord(number, source, "train", f"{source}{number}.png", Path(f"{source}{number}.png"), 40, 60, of_image)
        for number, of_image in enumerate(labels, start=1)
    ]


def drawn(records: list[ImageRecord], epochs: int = 1, world_size: int = 1, **spec: Any) -> list[list[int]]:
    """Return the batches of all ranks over some epochs, as positions in the records."""
    sources = {name: {"images": ".", "labels": [LAYER]} | of_source for name, of_source in spec.pop("sources").items()}
    data = DataSpec.model_validate({"root": "x", "sources": sources} | spec)
    samplers = [
        create_train_sampler(data, TASKS, records, seed=1, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    return [
        [key.index for key in batch]
        for epoch in range(epochs)
        for sampler in samplers
        for batch in sampler.batches(epoch)
    ]


def test_images_are_repeated_by_classes_of_boxes_or_images_but_not_by_crowds() -> None:
    common, rare = {"cells": [box("red"), box("red")]}, {"cells": [box("red"), box("white")]}
    crowd = {"cells": [box("red"), box("white", is_crowd=True)]}
    records = records_of(common, rare, crowd, *[common] * 13, {"cells": []}, {"signs": ["dot"]})
    sampler = {"kind": "repeat_factor", "task": "cells", "threshold": 1.0}
    (batch,) = drawn(records, sources={"a": {"sampler": sampler, "batch_size": 100}})
    # One of the 17 images labeled for cells is white: sqrt(17) = 4.12 times; 16 are red: sqrt(17 / 16) = 1.03 times.
    times = Counter(batch)
    assert times[1] in (4, 5)
    assert times[2] <= 2
    assert set(times) == set(range(18))

    records = records_of(*[{"signs": ["dot"]}] * 15, {"signs": ["dot", "ring"]}, {"cells": []})
    sampler = {"kind": "repeat_factor", "task": "signs", "threshold": 1.0}
    (batch,) = drawn(records, sources={"a": {"sampler": sampler, "batch_size": 100}})
    assert Counter(batch) == {**dict.fromkeys(range(17), 1), 15: 4}


def test_only_known_identities_of_objects_and_images_are_drawn() -> None:
    labels = [{"lookup": [box("x", "ann"), box("x", "ben")]}, {"lookup": [box("x", "ann")]}, {"lookup": [box("x")]}]
    labels += [{"lookup": [box("x", "eve", is_crowd=True), box("x", "ben")]}, {"lookup": []}, {"cells": []}]
    sampler = {"kind": "pk", "task": "lookup", "p": 2, "k": 2}
    batches = drawn(records_of(*labels), epochs=5, sources={"a": {"sampler": sampler, "batch_size": 4}})
    assert [sorted(batch) for batch in batches] == [[0, 0, 1, 3]] * 5

    labels = [{"scene": [name]} for name in "aabbcc"]
    sampler["task"] = "scene"
    for batch in drawn(records_of(*labels), epochs=3, sources={"a": {"sampler": sampler, "batch_size": 4}}):
        assert batch[0] // 2 == batch[1] // 2 != batch[2] // 2 == batch[3] // 2


def test_ranks_draw_different_identities_at_a_step() -> None:
    records = records_of(*[{"scene": [str(number // 2)]} for number in range(12)])
    sampler = {"kind": "pk", "task": "scene", "p": 3, "k": 2}
    for epoch in range(5):
        batches = drawn(records, epoch + 1, 2, sources={"a": {"sampler": sampler, "batch_size": 6}})[-2:]
        assert sorted(batches[0] + batches[1]) == list(range(12))


def test_too_few_identities_are_an_error_that_names_the_source() -> None:
    records = records_of({"scene": ["ann"]}, {"scene": ["ben"]}, {"cells": [box("red")]})
    sampler = {"kind": "pk", "task": "scene", "p": 3, "k": 2}
    with pytest.raises(DataError, match=r"data\.sources\.a\.sampler: got 2 identities; a batch needs p = 3"):
        drawn(records, sources={"a": {"sampler": sampler, "batch_size": 6}})


@pytest.mark.parametrize(("mix", "of_small"), [("interleave", 5), ("proportional", 5), ("temperature", 8)])
def test_document_selects_the_mix_of_sources(mix: str, of_small: int) -> None:
    """40 and 10 images in batches of 2 are 25 steps; the small source gets 1/5 of them, or 1/3 at temperature 2."""
    records = records_of(*[{"cells": []}] * 40) + records_of(*[{"cells": []}] * 10, source="b")
    sources = {"a": {"batch_size": 2}, "b": {"batch_size": 2}}
    batches = drawn(records, sources=sources, mix=mix)
    assert len(batches) == 25
    assert sum(batch[0] >= 40 for batch in batches) == of_small
    assert all(min(batch) >= 40 or max(batch) < 40 for batch in batches)


def test_concatenated_sources_share_batches() -> None:
    records = records_of(*[{"cells": []}] * 40) + records_of(*[{"cells": []}] * 10, source="b")
    batches = drawn(records, sources={"a": {"batch_size": 2}, "b": {"batch_size": 2}}, mix="concat")
    assert sorted(index for batch in batches for index in batch) == list(range(50))
    assert any(min(batch) < 40 <= max(batch) for batch in batches)
