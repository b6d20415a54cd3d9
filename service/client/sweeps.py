"""Calls about sweeps."""

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.client.client import RETRY_S, Client
from service.client.pages import read_pages
from service.client.responses import JSON_HEADERS, json_body, read_answer
from service.rest.sweep_schemas import ParallelCoordinates, SweepPage, SweepSummary, SweepView


class SweepsClient(Client):
    """A client with the calls about sweeps, see `Client`."""

    def start(self, request: Mapping[str, Any], key: str | None = None) -> SweepView:
        """Start a sweep, see `SweepRequest`; the same key returns the same sweep. Raises ConfigError."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())} | JSON_HEADERS
        return read_answer(SweepView, self.call("POST", "/v1/sweeps", content=json_body(request), headers=headers))

    def sweeps(self, limit: int = 20) -> list[SweepSummary]:
        """Return the newest sweeps."""

        def read_page(position: dict[str, Any]) -> SweepPage:
            return read_answer(SweepPage, self.call("GET", "/v1/sweeps", params=position))

        return read_pages(read_page, lambda page: page.sweeps, limit)

    def sweep(self, sweep_id: str, *, patience_s: float = RETRY_S) -> SweepView:
        """Return a sweep with its trials; `patience_s` is the time for a service that may be restarting."""
        return read_answer(SweepView, self.call("GET", _path(sweep_id), patience_s=patience_s))

    def cancel_sweep(self, sweep_id: str) -> None:
        """Request the cancellation of a sweep; raises Conflict if it has already ended."""
        self.call("POST", f"{_path(sweep_id)}/cancel")

    def delete_sweep(self, sweep_id: str) -> None:
        """Delete a sweep; raises Conflict if it has not ended."""
        self.call("DELETE", _path(sweep_id))

    def plot(self, sweep_id: str) -> ParallelCoordinates:
        """Return the numbers of the parallel-coordinates plot of a sweep."""
        return read_answer(ParallelCoordinates, self.call("GET", f"{_path(sweep_id)}/plot"))

    def plot_picture(self, sweep_id: str) -> bytes:
        """Return the parallel-coordinates plot of a sweep as PNG."""
        return self.call("GET", f"{_path(sweep_id)}/plot", params={"format": "png"}).content


def _path(sweep_id: str) -> str:
    return f"/v1/sweeps/{quote(sweep_id, safe='')}"
