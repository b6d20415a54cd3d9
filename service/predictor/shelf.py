"""Models in memory: loaded when first asked for, followed where an alias points, put away when others need the place.

    wish (name and alias, or name and number) -> version -> loaded model

A wish that was asked for lately is looked up again every few seconds, beside the requests: they take the version that
is known, and a new one takes over once it is loaded. Those under way keep the model that they began with.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import ConfigError, PyramidionError
from pipelines.inference.predictor import Predictor
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.predictor.model_files import ModelFiles

FOLLOWED_S = 600.0
"""A wish that nobody had for so long is looked up when somebody has it again."""

logger = logging.getLogger(__name__)


class NoSuchModel(PyramidionError):
    """The registry has no model of that name, or no version that was asked for."""


@dataclass(frozen=True)
class Wish:
    """Which version of a model is wanted: the one that an alias points to, or that of a number."""

    name: str
    which: str | int

    def __str__(self) -> str:
        return f"{self.name}@{self.which}" if isinstance(self.which, str) else f"{self.name}, version {self.which}"


@dataclass
class Loaded:
    """A model in memory; `num_users` are under way with it."""

    version: ModelVersion
    predictor: Predictor
    num_users: int = 0


@dataclass
class _Known:
    version: ModelVersion
    asked_at: float


_Key = tuple[str, int, str | None]


class Shelf:
    """Keeps models in memory; all methods are for any thread.

    Args:
        registry: where versions and aliases are looked up.
        files: where models lie on disk.
        capacity: so many models are kept; more only while more are in use at once.
        check_s: seconds between two looks at what an alias points to.
        load: makes a predictor of an exported model.
    """

    def __init__(
        self, registry: Registry, files: ModelFiles, capacity: int, check_s: float, load: Callable[[Path], Predictor]
    ) -> None:
        self._registry, self._files, self._load = registry, files, load
        self._capacity, self._check_s = capacity, check_s
        self._lock = threading.Lock()
        self._known: dict[Wish, _Known] = {}
        # The least recently used first.
        self._loaded: OrderedDict[_Key, Loaded] = OrderedDict()
        self._loading: dict[_Key, Future[None]] = {}
        self._closed = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="aliases", daemon=True)
        self._follower.start()

    def borrow(self, wish: Wish) -> Loaded | None:
        """Return the model if it is known and loaded, without waiting for anything; `give_back` it."""
        with self._lock:
            known = self._known.get(wish)
            if known is None:
                return None
            known.asked_at = time.monotonic()
            loaded = self._loaded.get(_key(known.version))
            if loaded is not None:
                self._loaded.move_to_end(_key(known.version))
                loaded.num_users += 1
            return loaded

    def give_back(self, loaded: Loaded) -> None:
        """End the use of a model that `borrow` has returned."""
        with self._lock:
            loaded.num_users -= 1
        self._make_room()

    def fetch(self, wish: Wish) -> None:
        """Wait until the model is known and loaded. One thread loads it, however many wait.

        Raises:
            NoSuchModel: there is none.
            RegistryError: MLflow does not answer.
            ConfigError: the version holds no model that this program can load.
        """
        version = self._find(wish)
        self._ensure_loaded(version)
        with self._lock:
            self._known[wish] = _Known(version, time.monotonic())

    def close(self) -> None:
        """Follow no alias any more."""
        self._closed.set()
        self._follower.join()

    def _find(self, wish: Wish) -> ModelVersion:
        is_alias = isinstance(wish.which, str)
        look_up = self._registry.by_alias if is_alias else self._registry.version
        version = look_up(wish.name, wish.which)  # type: ignore[arg-type]
        if version is None:
            with self._lock:
                self._known.pop(wish, None)
            raise NoSuchModel(f"there is no {wish}; GET /v1/models lists names and aliases")
        return version

    def _ensure_loaded(self, version: ModelVersion) -> None:
        key = _key(version)
        with self._lock:
            if key in self._loaded:
                return
            others = self._loading.get(key)
            own: Future[None] = self._loading.setdefault(key, Future())
        if others is not None:
            others.result()
            return
        try:
            started = time.monotonic()
            predictor = self._load_whole(version)
            logger.info("%s is loaded (%.1f s)", version.uri, time.monotonic() - started)
            with self._lock:
                self._loaded[key] = Loaded(version, predictor)
                del self._loading[key]
            own.set_result(None)
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            own.set_exception(error)
            raise
        self._make_room(keep=key)

    def _load_whole(self, version: ModelVersion) -> Predictor:
        try:
            return self._load(self._files.fetch(self._registry, version))
        except ConfigError as error:
            # A machine that went down may have left a damaged copy here: what the registry has counts.
            logger.warning("%s; it is copied from the registry anew", error)
            self._files.discard(version)
            return self._load(self._files.fetch(self._registry, version))

    def _make_room(self, keep: _Key | None = None) -> None:
        with self._lock:
            spare = len(self._loaded) - self._capacity
            unused = [key for key, loaded in self._loaded.items() if loaded.num_users == 0 and key != keep]
            gone = [self._loaded.pop(key) for key in unused[: max(0, spare)]]
        for loaded in gone:
            self._files.discard(loaded.version)
            logger.info("%s is put away", loaded.version.uri)

    def _follow(self) -> None:
        while not self._closed.wait(self._check_s):
            recently = time.monotonic() - FOLLOWED_S
            with self._lock:
                self._known = {wish: known for wish, known in self._known.items() if known.asked_at > recently}
                wishes = list(self._known)
            for wish in wishes:
                try:
                    self._look_again(wish)
                except NoSuchModel as error:
                    logger.info("%s", error)
                except Exception as error:  # the version that is known is served on, and looked after later
                    logger.warning("cannot look where %s points: %s", wish, error)

    def _look_again(self, wish: Wish) -> None:
        version = self._find(wish)
        with self._lock:
            known = self._known.get(wish)
            if known is None or _key(known.version) == _key(version):
                return
            is_served = _key(known.version) in self._loaded
        if is_served:
            self._ensure_loaded(version)
        with self._lock:
            known.version = version
        logger.info("%s is now version %d", wish, version.version)


def _key(version: ModelVersion) -> _Key:
    return version.name, version.version, version.run_id
