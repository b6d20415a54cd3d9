"""Network addresses: which are of this machine only, and which belong to trusted reverse proxies. Torch-free."""

import ipaddress
from collections.abc import Collection, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches a host."""
    address = _parse(host)
    return host == "localhost" if address is None else address.is_loopback


class TrustedProxies:
    """The reverse proxies whose `X-Forwarded-For` is believed; every other client could write anything into it.

    Args:
        networks: addresses and networks, such as `10.0.0.7` and `10.1.0.0/16`; raises ValueError for others.
    """

    def __init__(self, networks: Collection[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def __contains__(self, host: str) -> bool:
        address = _parse(host) if self._networks else None
        return address is not None and any(address in network for network in self._networks)

    def client_of(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client behind a connection.

        Args:
            peer: the other end of the connection.
            forwarded: values of `X-Forwarded-For`, to which each proxy appends the address of its own client.
        """
        hops = [hop.strip() for value in forwarded for hop in value.split(",")]
        client = peer
        while client in self and hops:
            hop = _parse(hops.pop())
            if hop is None:
                break
            client = str(hop)
        return client


def _parse(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    # A server that listens at `::` sees clients with IPv4 at such addresses.
    return getattr(address, "ipv4_mapped", None) or address
