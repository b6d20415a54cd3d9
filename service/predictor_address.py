"""Addresses of predictors that listen by themselves, and their health. Torch-free, and without HTTP libraries."""

import http.client
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

HEALTH_PATH = "/healthz"
_FORMS = "write http://HOST:PORT, or unix:/PATH for a Unix socket"
_MAX_PATH_BYTES = 107
"""Longest path of a Unix socket that Linux supports."""


@dataclass(frozen=True)
class PredictorAddress:
    """The address of a predictor: the path of a Unix socket, or a host and a port (then `path` is None)."""

    path: str | None
    host: str = "predictor"
    port: int = 80

    @classmethod
    def parse(cls, text: str) -> "PredictorAddress":
        """Return the address that a URL names; raises ValueError for any other text."""
        scheme, _, rest = text.partition(":")
        if scheme == "unix":
            return cls(_socket_path(text, rest))
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")  # as every connection will encode it
        except ValueError:
            host = port = None
        extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username if host else ""
        if scheme != "http" or host is None or port is None or extra:
            raise ValueError(f"got {text!r}; {_FORMS}")
        return cls(None, host, port)

    @property
    def base_url(self) -> str:
        """The URL without a path; that of a Unix socket has a fixed host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}" if self.path is None else f"http://{host}"

    def __str__(self) -> str:
        return self.base_url if self.path is None else f"unix:{self.path}"


def health_problem(address: PredictorAddress, timeout_s: float) -> str | None:
    """Return why the predictor at an address is not healthy, or None if it is."""
    connection = _Connection(address, timeout_s)
    try:
        connection.request("GET", HEALTH_PATH)
        response = connection.getresponse()
        body = response.read(1000).decode(errors="replace")
        return None if response.status == 200 else f"the predictor at {address} answers {response.status}: {body}"
    except (OSError, http.client.HTTPException) as error:
        return f"the predictor at {address} does not answer ({error or type(error).__name__})"
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to a Unix socket or to a host."""

    def __init__(self, address: PredictorAddress, timeout_s: float) -> None:
        super().__init__(address.host, address.port, timeout=timeout_s)
        self._path = address.path

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _socket_path(text: str, path: str) -> str:
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError(f"got {text!r}; {_FORMS}")
    if len(path.encode()) > _MAX_PATH_BYTES:
        raise ValueError(f"got {text!r}; the path of a Unix socket has at most {_MAX_PATH_BYTES} bytes")
    return path
