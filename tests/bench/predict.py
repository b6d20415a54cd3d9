"""Compare predictions over REST with direct calls of the model, on the same cores in the same run, and print a table.

Two untrained models, which cost as much as trained ones, predict for one 640x480 JPEG:

    latency   one client, one image: decode + forward in this process, alternating with a request
    rate      decode + batched forward in this process (A), and 16 clients of the service (B): A B A B ...

`--runtime` chooses what computes the models, in this process and in the service: torch, or a float32 export.

The service runs as usual (API process, predictor process), and is idle during direct calls. All clients share one
thread over plain sockets, so that their cost is not attributed to the service. The machine must be idle: with other
load, the several processes of the service get more of the cores than a single process.
"""

import argparse
import io
import json
import os
import platform
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipelines.inference.predictor import Predictor
from service.child_process import child_environment, python_command
from service.settings import Settings
from tests.bench.predict_models import make_models

NUM_CLIENTS = 16
TARGETS = {"torch": (15.0, 0.85), "onnxruntime": (5.0, 0.9), "openvino": (5.0, 0.9)}
"""By runtime, the largest difference of latencies in ms, and the smallest ratio of rates."""


@dataclass
class Figures:
    """Measurements of one model: seconds per image and images per second."""

    direct_s: list[float] = field(default_factory=list)
    rest_s: list[float] = field(default_factory=list)
    direct_rates: list[float] = field(default_factory=list)
    rest_rates: list[float] = field(default_factory=list)

    @property
    def difference_ms(self) -> float:
        return 1000 * (statistics.median(self.rest_s) - statistics.median(self.direct_s))

    @property
    def rate_ratio(self) -> float:
        return statistics.mean(self.rest_rates) / statistics.mean(self.direct_rates)


def photo() -> bytes:
    """Return a 640x480 JPEG of about 100 kB: coarse noise, about as detailed as a photograph."""
    grain = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(grain).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


@contextmanager
def api_process(root: Path) -> Iterator[tuple[str, int]]:
    """Run the API process and yield its address."""
    settings = Settings(root=root, predict_timeout_s=120)
    # Direct calls run on the CPU, so the service has to use it too.
    environment = {**os.environ, **settings.environment(), "CUDA_VISIBLE_DEVICES": ""}
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        process = subprocess.Popen(
            python_command("service.api.process", "--fd", str(listening.fileno())),
            env=child_environment(environment),
            pass_fds=[listening.fileno()],
        )
        address = listening.getsockname()
    try:
        yield address
    finally:
        process.terminate()
        process.wait()


def request_for(name: str, image: bytes, runtime: str) -> bytes:
    """Return the bytes of a prediction request."""
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = head + image + b"\r\n--b--\r\n"
    return (
        f"POST /v1/models/{name}/predict?runtime={runtime} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Connection:
    """A client that sends a request, reads the answer, and sends the next request."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._received = bytearray()

    def send(self) -> None:
        self.socket.sendall(self._request)

    def receive(self) -> bool:
        """Read the available bytes; return whether the answer is complete."""
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise SystemExit("bench: the server has closed the connection")
        self._received += chunk
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return False
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"bench: {bytes(self._received).decode(errors='replace')}")
        self.answer = bytes(body)
        self._received.clear()
        return True

    def ask(self) -> bytes:
        """Return the answer's body."""
        self.send()
        while not self.receive():
            pass
        return self.answer


def rest_rate(address: tuple[str, int], request: bytes, seconds: float) -> float:
    """Return the images per second of all clients together, until the last request is answered.

    A batch that is cut off at the end would count as work without images: half a batch is 8 % of the images at 512 px.
    """
    with selectors.DefaultSelector() as selector:
        clients = [Connection(address, request) for _ in range(NUM_CLIENTS)]
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        num_answers, started = 0, time.perf_counter()
        for client in clients:
            client.send()
        while selector.get_map():
            for key, _ in selector.select():
                if not key.data.receive():
                    continue
                num_answers += 1
                if time.perf_counter() - started < seconds:
                    key.data.send()
                else:
                    selector.unregister(key.data.socket)
        elapsed = time.perf_counter() - started
        for client in clients:
            client.socket.close()
    return num_answers / elapsed


def direct_rate(predictor: Predictor, image: bytes, seconds: float) -> float:
    """Return the images per second of decode and batched forward in this process."""
    num_images, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        num_images += len(predictor.predict([image] * predictor.batch_size))
    return num_images / elapsed


def measure(
    address: tuple[str, int], name: str, predictor: Predictor, image: bytes, options: argparse.Namespace
) -> Figures:
    """Measure one model; raise SystemExit if direct and REST predictions differ."""
    request, rounds, seconds = request_for(name, image, options.runtime), options.rounds, options.seconds
    figures = Figures()
    if differs(json.loads(Connection(address, request).ask()), predictor.predict([image])[0]):
        raise SystemExit(f"bench: {name}: predictions over REST differ from direct ones")
    direct_rate(predictor, image, 1)
    rest_rate(address, request, 1)
    for number in range(rounds):
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
        # A new connection per round, because the server closes connections that are idle during a rate measurement.
        client = Connection(address, request)
        until = time.perf_counter() + seconds / 2
        while time.perf_counter() < until:
            started = time.perf_counter()
            predictor.predict([image])
            between = time.perf_counter()
            client.ask()
            figures.direct_s.append(between - started)
            figures.rest_s.append(time.perf_counter() - between)
        client.socket.close()
        figures.direct_rates.append(direct_rate(predictor, image, seconds))
        figures.rest_rates.append(rest_rate(address, request, seconds))
    return figures


def differs(one: object, other: object) -> bool:
    """Return whether two answers differ by more than rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() != other.keys() or any(differs(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) != len(other) or any(map(differs, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) > 1e-3 * max(1.0, abs(one))
    return one != other


def show(figures: dict[str, Figures], runtime: str) -> bool:
    """Print the table; return whether all targets are met."""
    cpus = len(os.sched_getaffinity(0))
    print(f"\n{cpus} cores ({platform.machine()}), {runtime}, torch {torch.__version__}, {NUM_CLIENTS} clients\n")
    print("| model | direct, ms | REST, ms | difference, ms | direct, images/s | REST, images/s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for label, found in figures.items():
        cells = [
            f"{1000 * statistics.median(found.direct_s):.1f}",
            f"{1000 * statistics.median(found.rest_s):.1f}",
            f"{found.difference_ms:.1f}",
            " ".join(f"{rate:.1f}" for rate in found.direct_rates),
            " ".join(f"{rate:.1f}" for rate in found.rest_rates),
            f"{found.rate_ratio:.2f}",
        ]
        print(f"| {label} | {' | '.join(cells)} |")
    max_difference_ms, min_ratio = TARGETS[runtime]
    print(f"\ntargets: difference at most {max_difference_ms:g} ms, ratio at least {min_ratio:g}")
    return all(found.difference_ms <= max_difference_ms and found.rate_ratio >= min_ratio for found in figures.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds per model (default 3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="duration of each part of a round (default 6)")
    parser.add_argument("--runtime", choices=sorted(TARGETS), default="torch", help="default torch")
    options = parser.parse_args()
    if "OMP_WAIT_POLICY" not in os.environ:
        # The same setting as in the predictor process; torch reads it when it is loaded.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**child_environment(), "OMP_WAIT_POLICY": "PASSIVE"})
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    torch.set_num_threads(threads)
    image = photo()
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder), options.runtime, threads)
        with api_process(Path(folder)) as address:
            figures = {
                label: measure(address, name, predictor, image, options) for label, (name, predictor) in models.items()
            }
    sys.exit(0 if show(figures, options.runtime) else 1)


if __name__ == "__main__":
    main()
