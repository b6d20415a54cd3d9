"""`python -m service.predictor.process --fd N --parent PID`: the process that has torch.

It answers on the listening Unix socket that it inherits: who connects while torch is still being imported, waits.
"""

import argparse
import logging
import os
import socket
import sys

from service.child_process import die_with_parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True, help="listening socket")
    parser.add_argument("--parent", type=int, required=True, help="process that this one ends with")
    options = parser.parse_args()
    die_with_parent()
    if os.getppid() != options.parent:
        # It had ended before it could be said that we end with it.
        sys.exit(0)
    # Threads that spin while they wait for each other would take the cores from those that decode, and from training:
    # beside one busy process, two cores gave 15 images/s instead of 45 of resnet14_thin at 160 px.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="predictor: %(message)s", level=logging.INFO)

    import uvicorn

    from service.predictor.app import create_app
    from service.settings import Settings

    num_cpus = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    config = uvicorn.Config(
        create_app(Settings(), num_cpus),
        fd=options.fd,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
        # The API closes idle connections: closed from here, one could be closed while a request is on its way.
        timeout_keep_alive=3600,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=options.fd)])


if __name__ == "__main__":
    main()
