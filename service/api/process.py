"""`python -m service.api.process --fd N`: serve the API on a listening socket that the parent process has opened.

This process never imports torch; work that needs it runs in other processes.
"""

import argparse
import asyncio
import socket
from collections.abc import Sequence

import uvicorn
from fastapi import FastAPI

from pipelines.base.terminal import escape_output
from service.api.app import create_app
from service.api.mlflow_waits import shorten_waits
from service.child_process import die_with_parent
from service.heartbeat import Heartbeat
from service.settings import Settings

GRACE_S = 2
"""Time that open requests have to finish after SIGTERM."""


class _Server(uvicorn.Server):
    """A server that sends heartbeats, and ends event streams before it waits for open requests."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app
        self._heartbeat = Heartbeat()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._heartbeat.follow(asyncio.get_running_loop())
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.event_feed.stop()
        await super().shutdown(sockets)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve requests until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="service.api.process", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="number of the inherited listening socket")
    escape_output()
    descriptor = parser.parse_args(argv).fd
    die_with_parent()
    shorten_waits()
    app = create_app(Settings())
    server = _Server(
        app,
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        ),
    )
    server.run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main()
