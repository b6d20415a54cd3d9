import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.data.loading.sample import Sample
from pipelines.inference.predictor import Answer, Predictor
from service.predictor.batching import Abandoned, Batcher, BeforePass
from tests.service.conftest import jpeg
from tests.service.waiting import wait_until


class Watched(Predictor):
    """A predictor that records the size of each batch and can be paused."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.batches: list[int] = []
        self.has_started, self.may_continue = threading.Event(), threading.Event()
        self.may_continue.set()

    def answer(self, samples: Sequence[Sample]) -> list[Answer]:
        self.batches.append(len(samples))
        self.has_started.set()
        assert self.may_continue.wait(30)
        return super().answer(samples)


@pytest.fixture
def predictors(exported: list[Path]) -> list[Watched]:
    return [Watched.from_exported(folder, device="cpu", batch_size=4) for folder in exported]  # type: ignore[misc]


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(lambda: torch.set_num_threads(1))
    yield batcher
    batcher.close()


@pytest.fixture
def held(predictors: list[Watched], batcher: Batcher) -> Iterator[Watched]:
    """The first predictor, busy with one image until `may_continue` is set."""
    predictor = predictors[0]
    predictor.may_continue.clear()
    batcher.submit(predictor, predictor.prepare(jpeg(48, 64)))
    assert predictor.has_started.wait(30)
    yield predictor
    predictor.may_continue.set()


def test_image_does_not_wait_for_a_full_batch(predictors: list[Watched], batcher: Batcher) -> None:
    image = jpeg(48, 64)
    answers = [batcher.submit(predictors[0], predictors[0].prepare(image)).result(30) for _ in range(3)]
    assert predictors[0].batches == [1, 1, 1]
    assert answers == predictors[0].predict([image]) * 3


def test_images_that_arrive_during_a_batch_form_the_next_ones(held: Watched, batcher: Batcher) -> None:
    images = [jpeg(48, 64, seed) for seed in range(6)]
    waiting = [batcher.submit(held, held.prepare(image)) for image in images]
    held.may_continue.set()
    answers = [future.result(30) for future in waiting]
    assert held.batches == [1, 4, 2]
    for answer, alone in zip(answers, held.predict(images), strict=True):
        scores = [[row["score"] for row in found["tasks"]["scene"]["labels"]] for found in (answer, alone)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_batch_has_one_padded_size_and_the_oldest_image_goes_first(held: Watched, batcher: Batcher) -> None:
    flat, high = held.prepare(jpeg(48, 96)), held.prepare(jpeg(96, 48))
    done: list[str] = []
    waiting = []
    for name, sample in (("flat", flat), ("high", high), ("flat", flat), ("high", high), ("flat", flat)):
        waiting.append(batcher.submit(held, sample))
        waiting[-1].add_done_callback(lambda _, name=name: done.append(name))  # type: ignore[misc]
    held.may_continue.set()
    wait(waiting, 30)
    assert held.batches == [1, 3, 2]
    assert done == ["flat"] * 3 + ["high"] * 2


def test_duration_of_the_batch_in_progress_is_known(held: Watched, batcher: Batcher) -> None:
    first, second = batcher.busy_s, batcher.busy_s
    assert 0 < first < second
    held.may_continue.set()
    batcher.submit(held, held.prepare(jpeg(48, 64))).result(30)
    wait_until(lambda: batcher.busy_s == 0, "the end of the batch")


def test_models_take_turns(held: Watched, predictors: list[Watched], batcher: Batcher) -> None:
    image = jpeg(48, 64)
    waiting = [batcher.submit(model, model.prepare(image)) for model in (*predictors, *predictors)]
    held.may_continue.set()
    answers = [future.result(30) for future in waiting]
    assert [model.batches for model in predictors] == [[1, 2], [2]]
    assert answers[0] == answers[2] != answers[1] == answers[3]


def test_image_that_fails_does_not_fail_its_batch(held: Watched, batcher: Batcher) -> None:
    good = held.prepare(jpeg(48, 64))
    bad = Sample(good.image[:, :5], replace(good.info))
    waiting = [batcher.submit(held, sample) for sample in (good, bad, good)]
    held.may_continue.set()
    with pytest.raises(RuntimeError):
        waiting[1].result(30)
    assert waiting[0].result(30) == waiting[2].result(30)
    assert batcher.submit(held, good).result(30) == waiting[0].result()


def test_cancelled_image_is_skipped(held: Watched, batcher: Batcher) -> None:
    waiting = [batcher.submit(held, held.prepare(jpeg(48, 64))) for _ in range(3)]
    assert waiting[1].cancel()
    held.may_continue.set()
    wait((waiting[0], waiting[2]), 30)
    assert held.batches == [1, 2]


def test_waiting_images_are_cancelled_on_close(predictors: list[Watched]) -> None:
    batcher = Batcher(lambda: None)
    predictor = predictors[0]
    predictor.may_continue.clear()
    sample = predictor.prepare(jpeg(48, 64))
    first = batcher.submit(predictor, sample)
    assert predictor.has_started.wait(30)
    second = batcher.submit(predictor, sample)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher.is_closed:
        closing.join(0.01)
    predictor.may_continue.set()
    closing.join(30)
    assert first.result(30)["image"] == {"width": 64, "height": 48}
    assert second.cancelled()


def test_images_are_answered_before_each_pass_of_long_work(predictors: list[Watched], batcher: Batcher) -> None:
    image = jpeg(48, 64)
    answered = []

    def compute(before_pass: BeforePass) -> str:
        for _ in range(3):
            future = batcher.submit(predictors[0], predictors[0].prepare(image))
            before_pass()
            answered.append(future.done())
        return "done"

    assert batcher.submit_long_work(compute, threading.Event()).result(120) == "done"
    assert answered == [True] * 3


def test_long_work_stops_before_its_next_pass_once_it_is_abandoned(predictors: list[Watched], batcher: Batcher) -> None:
    abandoned, passes = threading.Event(), []

    def compute(before_pass: BeforePass) -> None:
        while True:
            before_pass()
            passes.append(1)
            abandoned.set()

    with pytest.raises(Abandoned):
        batcher.submit_long_work(compute, abandoned).result(120)
    assert passes == [1]
    assert batcher.submit(predictors[0], predictors[0].prepare(jpeg(48, 64))).result(120)


def test_error_of_long_work_is_that_of_its_future(predictors: list[Watched], batcher: Batcher) -> None:
    def compute(before_pass: BeforePass) -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        batcher.submit_long_work(compute, threading.Event()).result(120)
    assert batcher.submit(predictors[0], predictors[0].prepare(jpeg(48, 64))).result(120)


def test_long_work_that_waits_is_cancelled_by_close(held: Watched, batcher: Batcher) -> None:
    waiting = batcher.submit_long_work(lambda before_pass: None, threading.Event())
    closing = threading.Thread(target=batcher.close)
    closing.start()
    wait_until(lambda: batcher.is_closed, "the batcher closes")
    held.may_continue.set()
    closing.join(120)
    assert waiting.cancelled()
