"""`scipy.signal` is imported when something uses it, not by torchmetrics in every process that trains or scores."""

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAME = "scipy.signal"


class _DeferredSignal(ModuleType):
    """Stands for `scipy.signal` in `sys.modules` until one of its names is read."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.__spec__ = ModuleSpec(NAME, None)

    @staticmethod
    def hamming(*args: Any, **kwargs: Any) -> Any:
        """Return a Hamming window; torchmetrics adds this name to `scipy.signal`, where it is missing."""
        return importlib.import_module(f"{NAME}.windows").hamming(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        # Searches through `sys.modules`, such as those of `inspect`, ask every module for `__file__`.
        if name.startswith("__") and name not in ("__all__", "__path__"):
            raise AttributeError(f"module {NAME!r} has no attribute {name!r} before it is imported")
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


def defer_scipy_signal() -> None:
    """Let `import scipy.signal` do nothing until a name of the module is read.

    torchmetrics, which Lightning imports, imports it to add one name that nothing here uses. This took 1.8 of the
    12 CPU seconds before a training (virtual AMD EPYC with AVX2). Remove when torchmetrics no longer imports it.
    """
    sys.modules.setdefault(NAME, _DeferredSignal())
