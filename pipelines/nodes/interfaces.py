"""Network interfaces and their IPv4 addresses. Torch-free."""

import fcntl
import socket
import struct
from contextlib import suppress

_SIOCGIFADDR = 0x8915


def address_of(interface: str) -> str | None:
    """Return the IPv4 address of an interface; None if it has none or does not exist."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, suppress(OSError):
        answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    return None


def interface_of(address: str) -> str | None:
    """Return the interface that has an IPv4 address; None if none has it."""
    names = [name for _, name in socket.if_nameindex()]
    if address.startswith("127."):
        return next((name for name in names if (found := address_of(name)) and found.startswith("127.")), None)
    return next((name for name in names if address_of(name) == address), None)
