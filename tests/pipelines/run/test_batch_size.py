"""`batch_size: auto`: the knee of the throughput, within memory and the number of images."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.data.dataset.index import build_index
from pipelines.run.batch_size import choose_batch_size, with_batch_size
from pipelines.run.completion import Completion
from pipelines.run.open_fields import completed, is_open
from pipelines.run_folder.schemas import RunPrecision
from pipelines.spec.load import apply_override, validate_document

Document = dict[str, Any]
FIELD = "data.sources.shapes.batch_size"


@pytest.mark.parametrize(
    ("speeds", "largest", "chosen"),
    [
        pytest.param({4: 10, 8: 19, 16: 30, 32: 32}, 256, 16, id="doubling_gains_less_than_a_tenth"),
        pytest.param({4: 10, 8: 9}, 256, 4, id="larger_is_slower"),
        pytest.param({4: 10, 8: 20, 16: 40}, 31, 16, id="an_epoch_would_have_too_few_steps"),
        pytest.param({4: 10, 8: 20, 16: None}, 256, 8, id="memory_is_full"),
        pytest.param({4: None, 2: None, 1: 3}, 256, 1, id="only_one_image_fits"),
        pytest.param({4: None, 2: None, 1: None}, 256, 1, id="nothing_fits"),
        pytest.param({3: 10}, 3, 3, id="few_images"),
        pytest.param({1: 10}, 0, 1, id="fewer_images_than_steps"),
    ],
)
def test_batch_size_is_the_knee_of_the_throughput(
    speeds: Mapping[int, float | None], largest: int, chosen: int
) -> None:
    tried: list[int] = []

    def throughput(size: int) -> float | None:
        tried.append(size)
        return speeds[size]

    assert choose_batch_size(throughput, largest) == chosen
    assert tried == list(speeds)


@pytest.fixture
def auto(small_document: Document) -> Document:
    small_document["model"] |= {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "tasks": {"scene": {"head": "multilabel"}},
    }
    del small_document["data"]["sources"]["shapes"]["labels"][0]
    small_document["data"] |= {"image_size": 32}
    return apply_override(small_document, FIELD, "auto")


def test_batch_size_is_measured_and_completes_the_document(auto: Document, demo_root: Path) -> None:
    job, ticks = validate_document(auto), itertools.count()
    assert is_open(job)
    completion = Completion(
        job, auto, build_index(job, demo_root)[0], RunPrecision(name="32-true"), lambda: float(next(ticks))
    )
    measured = completion.measure(lambda: 0.0)
    assert (measured.fields, measured.costs) == ({FIELD: 4}, None)
    (message,) = completion.messages
    assert re.fullmatch(r"batch size 4 \(4: [34]\.\d images/s\)", message)
    assert completed(job, measured.fields) == validate_document(apply_override(auto, FIELD, 4))


def test_largest_images_of_several_sizes_are_measured(auto: Document) -> None:
    auto["data"]["multi_scale"] = [64, 100]
    tried = with_batch_size(validate_document(auto), 8).data
    assert (tried.multi_scale, tried.sources["shapes"].batch_size) == ((96, 96), 8)


def test_batches_of_identities_have_a_size_already(small: Document) -> None:
    document = apply_override(apply_override(small, FIELD, "auto"), "data.sources.shapes.sampler", {
        "kind": "pk", "task": "identity", "p": 2, "k": 2,
    })  # fmt: skip
    with pytest.raises(ConfigError, match=r"batch_size: got auto; the pk sampler draws p \* k = 4 images"):
        validate_document(document)
