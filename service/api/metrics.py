"""Prometheus metrics: requests are counted when their response starts; jobs and slots are read on each scrape.

Metrics that are read from the database have a registry of their own, so that the others are available without it.
"""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.api.connections import Connections, Limit
from service.api.thread_pools import ThreadPools
from service.jobs.kinds.registry import JOB_KINDS
from service.resources import CPUS, GPUS, ResourceCounts
from service.states import FailureKind, JobStatus
from service.store.gauges import JobGauges
from service.store.jobs import JobStore

UNKNOWN_ROUTE = "(none)"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.stored = CollectorRegistry()
        self.requests = Counter(
            "pyramidion_http_requests_total",
            "Requests processed",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "pyramidion_http_request_seconds",
            "Time from the request to the first byte of the response",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.listeners = Gauge(
            "pyramidion_event_listeners", "Clients that follow the events of a job", registry=self.registry
        )
        self.predictions = Gauge(
            "pyramidion_predictions_in_progress",
            "Predictions that run or wait for the predictor",
            registry=self.registry,
        )
        self.predictions_limit = Gauge(
            "pyramidion_predictions_limit",
            "Maximum number of predictions in progress, above which others are rejected",
            registry=self.registry,
        )
        self.prediction_latency = Histogram(
            "pyramidion_prediction_seconds",
            "Time that the predictor takes for a request, after its upload",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.database_up = Gauge(
            "pyramidion_database_up", "Whether the database answered this scrape", registry=self.registry
        )

    def text(self) -> bytes:
        """Return the metrics of this process in Prometheus' text format."""
        return generate_latest(self.registry)

    def stored_text(self) -> bytes:
        """Return the metrics that are read from the database; raises StoreUnavailable."""
        return generate_latest(self.stored)


class JobCollector(Collector):
    """Counts jobs and slots in the database on each scrape."""

    def __init__(self, store: JobStore, read: Callable[[], JobGauges], capacity: ResourceCounts) -> None:
        self._store, self._read, self._capacity = store, read, capacity

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        counts = self._store.counts()
        jobs = GaugeMetricFamily("pyramidion_jobs", "Jobs by status", labels=["status"])
        for status in JobStatus:
            jobs.add_metric([status.value], counts.get(status, 0))
        yield jobs
        age_s = _age_s(self._store.oldest_queued_at())
        yield GaugeMetricFamily("pyramidion_oldest_queued_seconds", "Waiting time of the oldest queued job", age_s)
        used = GaugeMetricFamily("pyramidion_slots_used", "Slots that jobs hold", labels=["kind"])
        total = GaugeMetricFamily("pyramidion_slots", "Slots that all jobs may use together", labels=["kind"])
        for (kind, name), held in zip((("cpu", CPUS), ("gpu", GPUS)), self._store.slots_in_use(), strict=True):
            used.add_metric([kind], held)
            total.add_metric([kind], self._capacity.get(name, 0))
        yield used
        yield total
        yield from _gauges(self._read())


def _gauges(found: JobGauges) -> Iterator[Metric]:
    of_kinds = GaugeMetricFamily(
        "pyramidion_jobs_by_kind", "Jobs by the kind of their work and status", labels=["job_kind", "status"]
    )
    for kind in JOB_KINDS:
        for status in JobStatus:
            of_kinds.add_metric([kind, status.value], found.counts.get((kind, status.value), 0))
    yield of_kinds
    failed = GaugeMetricFamily("pyramidion_jobs_failed", "Failed jobs by failure kind", labels=["kind"])
    for reason in FailureKind:
        failed.add_metric([reason.value], found.failures.get(reason, 0))
    yield failed
    yield GaugeMetricFamily(
        "pyramidion_oldest_startable_seconds",
        "Time since the oldest queued job may start; it grows while resources are used, or the supervisor does nothing",
        _age_s(found.startable_since),
    )
    if found.heartbeat_at is not None:
        yield GaugeMetricFamily(
            "pyramidion_supervisor_heartbeat_seconds", "Age of the supervisor's heartbeat", _age_s(found.heartbeat_at)
        )
    yield GaugeMetricFamily(
        "pyramidion_unsettled_jobs", "Ended jobs whose final status MLflow does not have yet", found.unsettled
    )
    yield GaugeMetricFamily(
        "pyramidion_oldest_unsettled_seconds", "Time since the first of them ended", _age_s(found.unsettled_since)
    )


def _age_s(since: float | None) -> float:
    return 0.0 if since is None else max(0.0, time.time() - since)


class PoolCollector(Collector):
    """Reports the thread pools, and with them whether the database, the disks and MLflow answer."""

    def __init__(self, pools: ThreadPools) -> None:
        self._pools = pools

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        threads = GaugeMetricFamily("pyramidion_pool_threads", "Threads by kind of blocking work", labels=["pool"])
        calls = GaugeMetricFamily("pyramidion_pool_calls", "Calls that run or wait for a thread", labels=["pool"])
        answered = GaugeMetricFamily(
            "pyramidion_pool_last_answer_timestamp_seconds", "Time of the last call with an answer", labels=["pool"]
        )
        outage = GaugeMetricFamily(
            "pyramidion_pool_outage_seconds",
            "Time since the first failure after the last answer, such as of MLflow; 0 while calls are answered",
            labels=["pool"],
        )
        failures = CounterMetricFamily(
            "pyramidion_pool_failures",
            "Calls without an answer: rejected (full), too slow (timeout), or database, MLflow or S3 failed (error)",
            labels=["pool", "reason"],
        )
        for pool in self._pools.all():
            threads.add_metric([pool.work], pool.num_threads)
            calls.add_metric([pool.work], pool.num_unfinished)
            answered.add_metric([pool.work], pool.answered_at)
            outage.add_metric([pool.work], pool.outage_s)
            for reason, number in pool.failures.items():
                failures.add_metric([pool.work, reason], number)
        yield from (threads, calls, answered, outage, failures)


class ConnectionCollector(Collector):
    """Reports the connections, and how often a client exceeded a limit."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("pyramidion_connections", "Open connections", self._connections.number)
        yield GaugeMetricFamily("pyramidion_connections_limit", "Maximum connections", self._connections.maximum)
        exceeded = CounterMetricFamily(
            "pyramidion_connection_limits_exceeded", "Connections that exceeded a limit", labels=["limit"]
        )
        for limit in Limit:
            exceeded.add_metric([limit.value], self._connections.exceeded[limit])
        yield exceeded
