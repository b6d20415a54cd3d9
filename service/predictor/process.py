"""`python -m service.predictor.process --fd N --parent PID`: the predictor process, the only one with torch.

It inherits a listening Unix socket, so that clients that connect while torch is being imported wait instead of failing.
"""

import argparse
import logging
import os
import socket
import sys

from pipelines.base.cores import num_cores
from pipelines.base.garbage_collection import no_garbage_collection
from service.child_process import die_with_parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True, help="number of the inherited listening socket")
    parser.add_argument("--parent", type=int, required=True, help="pid of the parent; this process exits with it")
    options = parser.parse_args()
    die_with_parent()
    if os.getppid() != options.parent:
        # The parent exited before die_with_parent() took effect.
        sys.exit(0)
    # OpenMP threads that spin while waiting take the cores from decoding threads and from training: next to one busy
    # process on two cores, resnet14_thin at 160 px gave 15 images/s instead of 45.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="predictor: %(message)s", level=logging.INFO)

    import uvicorn

    with no_garbage_collection():
        from service.predictor.app import create_app
    from service.settings import Settings

    num_cpus = int(os.environ.get("OMP_NUM_THREADS") or num_cores())
    config = uvicorn.Config(
        create_app(Settings(), num_cpus),
        fd=options.fd,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
        # The API closes idle connections. If this side closed one, a request could be on its way.
        timeout_keep_alive=3600,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=options.fd)])


if __name__ == "__main__":
    main()
