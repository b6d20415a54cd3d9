"""What a scrape of `/metrics` has, compared with the page of the operator."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.base.errors import RegistryError
from service.api.thread_pools import ThreadPool, Work
from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database
from service.store.leases import LeasedStore
from service.store.supervisor_lease import LeaseStore

PAGE = (Path(__file__).resolve().parents[3] / "docs/operations.md").read_text("utf-8")


def scraped(api: httpx2.Client) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return the values of all samples by labels, by the name of their sample."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(api.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_page_describes_every_metric_with_its_labels_and_nothing_else(api: httpx2.Client, settings: Settings) -> None:
    assert LeaseStore(open_database(settings.url_of_database), "tests", "another host").take(None, None)
    api.get("/nothing")
    labels = {
        re.sub("_(bucket|count|sum)$", "", name): {label for values in samples for label, _ in values} - {"le"}
        for name, samples in scraped(api).items()
        if not name.endswith("_created")
    }
    section = PAGE.partition("## Metrics and alerts\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `pyramidion_")]
    assert all(len(row) == 3 and row[2].strip(" |") for row in rows), "each row has a meaning and an alert"
    documented = {
        name: set(filter(None, re.split(", ?", names)))
        for row in rows
        for name, names in re.findall(r"`(pyramidion_[a-z_]+)(?:\{([a-z_, ]+)\})?`", row[0])
    }
    assert documented == labels
    assert set(re.findall(r"\bpyramidion_[a-z_]+", PAGE)) <= set(labels)


def test_jobs_are_counted_by_kind_of_work(api: httpx2.Client, submit: Callable[..., str], leases: LeasedStore) -> None:
    first, _ = submit(), submit()
    leases.claim(first, [])
    counts = scraped(api)["pyramidion_jobs_by_kind"]
    found = {tuple(value for _, value in labels): number for labels, number in counts.items() if number}
    assert found == {("fit", JobStatus.STARTING): 1, ("fit", JobStatus.QUEUED): 1}
    assert (("job_kind", "batch_prediction"), ("status", "queued")) in counts


def test_limit_of_the_predictors_queue_is_that_of_the_settings(api: httpx2.Client, settings: Settings) -> None:
    assert scraped(api)["pyramidion_predictions_limit"] == {(): settings.predict_queue_size}


def test_outage_lasts_from_the_first_failure_to_the_next_answer() -> None:
    pool = ThreadPool(Work.REGISTRY, 1, 1, 60)

    def fail(error: Exception) -> Any:
        raise error

    async def scenario() -> None:
        assert pool.outage_s == 0
        for _ in range(2):
            with pytest.raises(RegistryError):
                await pool.run(fail, RegistryError("MLflow is down"))
        assert pool.failing_since is not None
        assert pool.failures["error"] == 2
        with pytest.raises(LookupError):
            await pool.run(fail, LookupError("MLflow answers that there is no such model"))
        assert (pool.failing_since, pool.outage_s) == (None, 0)

    asyncio.run(scenario())
    pool.close()
