"""The predictor process, the only one of the service with torch.

    python -m service.predictor.process --fd N --parent PID   started by the API, on an inherited Unix socket
    python -m service.predictor.process --listen ADDRESS      by itself, at http://HOST:PORT or unix:/PATH

Clients that connect while torch is being imported wait instead of failing, because the socket listens before.
"""

import argparse
import logging
import os
import socket
import stat
import sys
from pathlib import Path

from pipelines.base.cores import num_cores
from pipelines.base.errors import ConfigError, FieldProblem, print_error
from pipelines.base.garbage_collection import no_garbage_collection
from pipelines.base.terminal import escape_output
from service.child_process import die_with_parent
from service.predictor_address import PredictorAddress

_BACKLOG = 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    started = parser.add_mutually_exclusive_group(required=True)
    started.add_argument("--fd", type=int, help="number of the inherited listening socket")
    started.add_argument("--listen", type=_address, help="address to listen at: http://HOST:PORT or unix:/PATH")
    parser.add_argument("--parent", type=int, help="pid of the parent; this process exits with it")
    escape_output()
    options = parser.parse_args()
    if options.parent is not None:
        die_with_parent()
        if os.getppid() != options.parent:
            # The parent exited before die_with_parent() took effect.
            sys.exit(0)
    logging.basicConfig(format="predictor: %(message)s", level=logging.INFO)
    if options.fd is not None:
        # Only the API can connect to this socket; the secret is that of other predictors.
        for name in ("PYRAMIDION_PREDICTOR_SECRET", "PYRAMIDION_PREDICTOR_SECRET_FILE"):
            os.environ.pop(name, None)
        serve(socket.socket(fileno=options.fd))
        return
    try:
        listener = listen(options.listen)
    except ConfigError as error:
        sys.exit(print_error(error))
    print(f"predictor at {options.listen}", flush=True)
    serve(listener)


def listen(address: PredictorAddress) -> socket.socket:
    """Return a socket that listens at an address.

    Raises:
        ConfigError: the address cannot be used, or has a port and there is no secret.
    """
    from service.settings import Settings

    secret = Settings().secret_of_predictor
    if address.path is None and secret is None:
        raise ConfigError(
            FieldProblem(
                "PYRAMIDION_PREDICTOR_SECRET",
                f"missing; every process that reaches {address} could use the predictor: set a secret here and in the "
                "environment of the API, or listen at unix:/PATH",
            )
        )
    try:
        return _listen_unix(Path(address.path)) if address.path is not None else _listen_tcp(address)
    except OSError as error:
        raise ConfigError(
            FieldProblem("--listen", f"cannot listen at {address} ({error.strerror or error}); choose another address")
        ) from error


def serve(listener: socket.socket) -> None:
    """Answer requests on a listening socket until SIGTERM."""
    # OpenMP threads that spin while waiting take the cores from decoding threads and from training: next to one busy
    # process on two cores, resnet14_thin at 160 px gave 15 images/s instead of 45.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    import uvicorn

    with no_garbage_collection():
        from service.predictor.app import create_app
    from service.settings import Settings

    num_cpus = int(os.environ.get("OMP_NUM_THREADS") or num_cores())
    config = uvicorn.Config(
        create_app(Settings(), num_cpus),
        fd=listener.fileno(),
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
        proxy_headers=False,  # only the API connects
        # The API closes idle connections. If this side closed one, a request could be on its way.
        timeout_keep_alive=3600,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen_unix(path: Path) -> socket.socket:
    """Listen at a path that only this user and its group can connect to; replace the socket of an earlier process."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
        mask = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_tcp(address: PredictorAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)


def _address(text: str) -> PredictorAddress:
    try:
        return PredictorAddress.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    main()
