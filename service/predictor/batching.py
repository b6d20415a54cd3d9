"""Group waiting images into batches and run the models on them in one thread.

The thread takes the waiting images as soon as it is free; it never waits for a batch to fill. Other threads decode and
resize images in the meantime, so that the next batch is ready when the current one is done.

Work that needs many passes of a network, such as an explanation, runs in the same thread. Before each of its passes,
the images that wait are answered, so that they wait for one pass at most.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipelines.data.loading.sample import Sample, padded_size
from pipelines.inference.predictor import Answer, Predictor

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class _Waiting:
    predictor: Predictor
    sample: Sample
    answer: Future[Answer] = field(default_factory=Future)

    def shares_batch(self, other: "_Waiting") -> bool:
        """Return whether both images can form a batch: same model, same padded size."""
        own, others = self.sample.info.size_hw, other.sample.info.size_hw
        return self.predictor is other.predictor and padded_size(own) == padded_size(others)


class Abandoned(Exception):
    """Nobody waits for the result of some work any more."""


BeforePass = Callable[[], None]


@dataclass(frozen=True)
class _LongWork:
    compute: Callable[[BeforePass], Any]
    abandoned: threading.Event
    result: Future[Any] = field(default_factory=Future)


class Batcher:
    """Runs models in one thread; the oldest image, of whichever model, comes first.

    Args:
        prepare_thread: called once in the thread before the first batch.
    """

    def __init__(self, prepare_thread: Callable[[], None]) -> None:
        self._queue: deque[_Waiting] = deque()
        self._long_work: deque[_LongWork] = deque()
        self._busy_since: float | None = None
        self._changed = threading.Condition()
        self.is_closed = False
        self._prepare_thread = prepare_thread
        self._thread = threading.Thread(target=self._work, name="forward", daemon=True)
        self._thread.start()

    @property
    def busy_s(self) -> float:
        """The seconds that the batch in progress has taken so far; 0 if there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def submit(self, predictor: Predictor, sample: Sample) -> Future[Answer]:
        """Return a future of the prediction; if it is cancelled before its turn, the image is skipped."""
        waiting = _Waiting(predictor, sample)
        with self._changed:
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.answer

    def submit_long_work(self, compute: Callable[[BeforePass], T], abandoned: threading.Event) -> Future[T]:
        """Return a future of the result of `compute`, which runs in the thread.

        Args:
            compute: calls its argument before each pass of a network; that call may raise `Abandoned`.
            abandoned: is set when nobody waits for the result any more.
        """
        work = _LongWork(compute, abandoned)
        with self._changed:
            self._long_work.append(work)
            self._changed.notify()
        return work.result

    def close(self) -> None:
        """Stop after the current batch or pass, and cancel the images and the work that still wait."""
        with self._changed:
            self.is_closed = True
            self._changed.notify()
        self._thread.join()
        for waiting in self._queue:
            waiting.answer.cancel()
        for work in self._long_work:
            work.result.cancel()

    def _work(self) -> None:
        self._prepare_thread()
        while group := self._next():
            self._busy_since = time.monotonic()
            if isinstance(group, _LongWork):
                self._do(group)
            else:
                _compute(group)
            self._busy_since = None

    def _do(self, work: _LongWork) -> None:
        def before_pass() -> None:
            self._answer_waiting()
            if self.is_closed or work.abandoned.is_set():
                raise Abandoned

        if not work.result.set_running_or_notify_cancel():
            return
        try:
            work.result.set_result(work.compute(before_pass))
        except Exception as error:  # the thread must survive any error and pass it to the request
            work.result.set_exception(error)

    def _answer_waiting(self) -> None:
        """Answer the images that wait now, and not those that come meanwhile, so that long work makes progress."""
        with self._changed:
            groups = []
            while self._queue and not self.is_closed:
                groups.append(self._take_group())
        for group in filter(None, groups):
            self._busy_since = time.monotonic()
            _compute(group)
        self._busy_since = time.monotonic()

    def _next(self) -> list[_Waiting] | _LongWork | None:
        """Take work, which answers images before its passes, or the oldest image and all that can share its batch;
        return None after `close`."""
        with self._changed:
            while True:
                while not self._queue and not self._long_work and not self.is_closed:
                    self._changed.wait()
                if self.is_closed:
                    return None
                if self._long_work:
                    return self._long_work.popleft()
                group = self._take_group()
                if group:
                    return group

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        others: list[_Waiting] = []
        while self._queue and (not group or len(group) < group[0].predictor.batch_size):
            waiting = self._queue.popleft()
            if group and not group[0].shares_batch(waiting):
                others.append(waiting)
            elif waiting.answer.set_running_or_notify_cancel():
                group.append(waiting)
        self._queue.extendleft(reversed(others))
        return group


def _compute(group: Sequence[_Waiting]) -> None:
    try:
        answers = group[0].predictor.answer([waiting.sample for waiting in group])
    except Exception as error:  # the thread must survive any error and pass it to the waiting requests
        if len(group) == 1:
            group[0].answer.set_exception(error)
            return
        logger.warning("a batch of %d images failed; running each image alone", len(group), exc_info=True)
        for waiting in group:
            _compute([waiting])
        return
    for waiting, answer in zip(group, answers, strict=True):
        waiting.answer.set_result(answer)
