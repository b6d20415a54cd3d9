"""`python -m service.api.process --fd N`: serve the API on a listening socket that the parent process has opened.

This process never imports torch; work that needs it runs in other processes.
"""

import argparse
import asyncio
import gc
import math
import socket
import sys
from collections.abc import Sequence
from functools import partial

import uvicorn
from fastapi import FastAPI

from pipelines.base.terminal import escape_output
from service.api.app import create_app
from service.api.connections import raise_open_files, sweep
from service.api.limited_protocol import LimitedProtocol
from service.api.log_writer import LogWriter, start_log
from service.api.mlflow_waits import shorten_waits
from service.child_process import die_with_parent
from service.heartbeat import Heartbeat
from service.settings import Settings

GRACE_S = 2
"""Time that open requests have to finish after SIGTERM."""
MIN_NEW_MODULES = 100
SWEEP_TICKS = 10
"""Number of the server's ticks (0.1 s) between two searches for connections whose time is over."""


class ApiServer(uvicorn.Server):
    """A server with limits for connections, which sends heartbeats and ends event streams before it stops.

    Args:
        log: the log of a process that does nothing else.
    """

    def __init__(self, app: FastAPI, settings: Settings, log: LogWriter | None = None) -> None:
        self._app = app
        self._log = log
        self._heartbeat = Heartbeat()
        self._num_spared = 0
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=partial(LimitedProtocol, app.state.connections),  # type: ignore[arg-type]
                ws="none",
                lifespan="on",
                log_level="error",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the trusted proxies of the settings are known to the request log
                timeout_keep_alive=math.ceil(settings.idle_timeout_s),
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._heartbeat.follow(asyncio.get_running_loop())
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_TICKS == 0:
            sweep(self.server_state)
            if self._log is not None:
                self._spare_modules()
        return await super().on_tick(counter)

    def _spare_modules(self) -> None:
        """Exclude the objects of new modules from garbage collection, which would stop all requests for 0.2 s."""
        if len(sys.modules) > self._num_spared + MIN_NEW_MODULES:
            self._num_spared = len(sys.modules)
            gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.event_feed.stop()
        await super().shutdown(sockets)
        # The signal that stops the server ends the process before anything else can be done.
        if self._log is not None:
            self._log.finish()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve requests until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="service.api.process", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="number of the inherited listening socket")
    escape_output()
    descriptor = parser.parse_args(argv).fd
    die_with_parent()
    shorten_waits()
    raise_open_files()
    settings = Settings()
    log = start_log(has_requests=settings.request_log)
    server = ApiServer(create_app(settings), settings, log)
    server.run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main()
