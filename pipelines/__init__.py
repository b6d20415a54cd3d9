"""From one job document to a trained, evaluated, registered model."""

from pipelines.base.deferred_scipy import defer_scipy_signal

# Before any module of the package imports Lightning.
defer_scipy_signal()
