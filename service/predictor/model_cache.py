"""Models in memory: loaded on first use, following the aliases that point to them, evicted when the cache is full.

    reference (name and alias, or name and version number; runtime) -> version and its exports -> loaded model

References that were used recently are resolved again every few seconds in the background. Requests use the last known
version; a new version, or the same with a new export, replaces it as soon as it is loaded. Requests in progress keep
the model they started with.
"""

import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

from pipelines.base.errors import PyramidionError
from pipelines.base.runtime_choice import RuntimeChoice
from pipelines.inference.predictor import Predictor
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.predictor.loading import PredictorLoader

FORGET_AFTER_S = 600.0
"""A reference that has not been used for this long is no longer checked; its next use resolves it again."""

logger = logging.getLogger(__name__)


class ModelNotFound(PyramidionError):
    """The registry has no model of this name, or the model has no such version or alias."""


@dataclass(frozen=True)
class ModelReference:
    """A model version named by an alias (str) or by its number (int), and what computes it."""

    name: str
    alias_or_version: str | int
    runtime: RuntimeChoice = "auto"

    def __str__(self) -> str:
        which = self.alias_or_version
        return f"{self.name}@{which}" if isinstance(which, str) else f"{self.name}, version {which}"


@dataclass
class LoadedModel:
    """A model in memory; `num_users` requests are using it.

    Attributes:
        runtime: what computes it, such as `torch` or `openvino-int8`.
    """

    version: ModelVersion
    predictor: Predictor
    runtime: str
    num_users: int = 0


_VersionKey = tuple[str, int, str | None, float]
_Key = tuple[_VersionKey, RuntimeChoice, tuple[str, ...]]


@dataclass
class _Resolved:
    key: _Key
    used_at: float


class ModelCache:
    """Keeps models in memory; all methods are thread-safe.

    Args:
        registry: resolves versions and aliases.
        loader: loads predictors.
        capacity: number of models to keep; it is exceeded only while more models are in use at once.
        check_s: seconds between two checks of where aliases point.
    """

    def __init__(self, registry: Registry, loader: PredictorLoader, capacity: int, check_s: float) -> None:
        self._registry, self._loader = registry, loader
        self._capacity, self._check_s = capacity, check_s
        self._lock = threading.Lock()
        self._resolved: dict[ModelReference, _Resolved] = {}
        # Least recently used first.
        self._loaded: OrderedDict[_Key, LoadedModel] = OrderedDict()
        self._loading: dict[_Key, Future[None]] = {}
        self._closed = threading.Event()
        self._follower = threading.Thread(target=self._follow_aliases, name="aliases", daemon=True)
        self._follower.start()

    def acquire(self, reference: ModelReference) -> LoadedModel | None:
        """Return the model if it is resolved and loaded, without blocking; call `release` after use."""
        with self._lock:
            resolved = self._resolved.get(reference)
            if resolved is None:
                return None
            resolved.used_at = time.monotonic()
            loaded = self._loaded.get(resolved.key)
            if loaded is not None:
                self._loaded.move_to_end(resolved.key)
                loaded.num_users += 1
            return loaded

    def release(self, loaded: LoadedModel) -> None:
        """End the use of a model that `acquire` returned."""
        with self._lock:
            loaded.num_users -= 1
        self._evict()

    def fetch(self, reference: ModelReference) -> None:
        """Wait until the model is resolved and loaded. Concurrent callers share one load.

        Raises:
            ModelNotFound: the registry does not have it.
            RegistryError: MLflow does not answer.
            RuntimeUnusable: the runtime cannot compute it.
            ConfigError: the version does not contain a model that this program can load.
        """
        version = self._resolve(reference)
        key = _key(version, reference.runtime)
        self._ensure_loaded(key, version)
        with self._lock:
            self._resolved[reference] = _Resolved(key, time.monotonic())

    def is_resolved(self, reference: ModelReference) -> bool:
        """Return whether the version of a reference is known, without blocking."""
        with self._lock:
            return reference in self._resolved

    def resolve(self, reference: ModelReference) -> None:
        """Check that the registry has the version of a reference; raises ModelNotFound or RegistryError."""
        self._resolve(reference)

    def close(self) -> None:
        """Stop checking aliases."""
        self._closed.set()
        self._follower.join()

    def _resolve(self, reference: ModelReference) -> ModelVersion:
        is_alias = isinstance(reference.alias_or_version, str)
        look_up = self._registry.by_alias if is_alias else self._registry.version
        version = look_up(reference.name, reference.alias_or_version)  # type: ignore[arg-type]
        if version is None:
            with self._lock:
                self._resolved.pop(reference, None)
            raise ModelNotFound(f"model {reference} is not registered; GET /v1/models lists names and aliases")
        return version

    def _ensure_loaded(self, key: _Key, version: ModelVersion) -> None:
        _, choice, _ = key
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
            predictor, runtime = self._loader.load(version, choice)
            logger.info("%s is loaded, in %s (%.1f s)", version.uri, runtime, time.monotonic() - started)
            with self._lock:
                self._loaded[key] = LoadedModel(version, predictor, runtime)
                del self._loading[key]
            own.set_result(None)
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            own.set_exception(error)
            raise
        self._evict(keep=key)

    def _evict(self, keep: _Key | None = None) -> None:
        with self._lock:
            excess = len(self._loaded) - self._capacity
            unused = [key for key, loaded in self._loaded.items() if loaded.num_users == 0 and key != keep]
            evicted = [self._loaded.pop(key) for key in unused[: max(0, excess)]]
            # A version may be loaded again, for another runtime or with a new export.
            kept = {version_key for version_key, _, _ in (*self._loaded, *self._loading)}
        for loaded in evicted:
            if _version_key(loaded.version) not in kept:
                self._loader.discard(loaded.version)
            logger.info("%s is evicted", loaded.version.uri)

    def _follow_aliases(self) -> None:
        while not self._closed.wait(self._check_s):
            oldest = time.monotonic() - FORGET_AFTER_S
            with self._lock:
                self._resolved = {
                    key: resolved for key, resolved in self._resolved.items() if resolved.used_at > oldest
                }
                references = list(self._resolved)
            for reference in references:
                try:
                    self._refresh(reference)
                except ModelNotFound as error:
                    logger.info("%s", error)
                except Exception as error:  # keep serving the known version, and try again later
                    logger.warning("cannot check where %s points: %s", reference, error)

    def _refresh(self, reference: ModelReference) -> None:
        version = self._resolve(reference)
        key = _key(version, reference.runtime)
        with self._lock:
            resolved = self._resolved.get(reference)
            if resolved is None or resolved.key == key:
                return
            is_loaded = resolved.key in self._loaded
        if is_loaded:
            self._ensure_loaded(key, version)
        with self._lock:
            resolved.key = key
        logger.info("%s is now version %d", reference, version.version)


def _key(version: ModelVersion, choice: RuntimeChoice) -> _Key:
    """Return what identifies a loaded model; a new export of a version makes another one, unless torch is chosen."""
    is_exported = choice not in ("torch", "torch-bf16")
    exports = [export.model_dump_json() for export in version.exports.values()] if is_exported else []
    return _version_key(version), choice, tuple(exports)


def _version_key(version: ModelVersion) -> _VersionKey:
    # A model that was deleted and registered again by the same run has another time.
    return version.name, version.version, version.run_id, version.created_at
