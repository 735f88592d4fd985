"""Find free TCP ports on the loopback interface, and keep them for servers that are away for a moment."""

import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"
# Below the range from which kernels take the source ports of outgoing connections (32768 up on Linux): a port found
# free here is not taken by somebody's connection in the second before its server binds it.
FIRST_PORT = 20_000
LAST_PORT = 32_000
# By port, for as long as this process lives or until it lets go: the UDP port of the same number, which no server of
# ours uses. It ends with its process however that ends, and is no hindrance to the TCP server that it stands for.
_KEPT: dict[int, socket.socket] = {}


class NoFreePortError(Exception):
    """Every port of the range is taken."""

    def __init__(self) -> None:
        super().__init__(f"No free TCP port between {FIRST_PORT} and {LAST_PORT}; end what listens there: ss -ltnp")


def keep(*ports: int) -> None:
    """Keep ports for servers of this process's: to others they are taken, also while a server that died is away.

    A port that another process keeps already is left to whoever binds it first.
    """
    for port in set(ports) - _KEPT.keys():
        if (claim := _claim(port)) is not None:
            _KEPT[port] = claim


def let_go(*ports: int) -> None:
    """Keep these ports no longer."""
    for port in ports:
        if (claim := _KEPT.pop(port, None)) is not None:
            claim.close()


def _claim(port: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind((LOOPBACK, port))
    except OSError:
        claim.close()
        return None
    return claim


def is_free(port: int) -> bool:
    """Tell whether a server of this process's could listen on the port now, and nobody else keeps it for one."""
    if port not in _KEPT:
        if (claim := _claim(port)) is None:
            return False
        claim.close()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers bind with this option too: a port in TIME_WAIT is free to them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(*, preferred: int | None = None, taken: Iterable[int] = ()) -> int:
    """Return a free port: the preferred one if it is still free, so that addresses survive a restart.

    Raises:
        NoFreePortError: There is none.
    """
    avoid = set(taken)
    if preferred is not None and preferred not in avoid and is_free(preferred):
        return preferred
    # Drawn, not counted up: two stacks starting together would find the same first port.
    candidates = random.SystemRandom().sample(range(FIRST_PORT, LAST_PORT), 200)
    for port in candidates:
        if port not in avoid and is_free(port):
            return port
    raise NoFreePortError


def accepts_connections(port: int) -> bool:
    """Tell whether something listens on the port now."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True
    except OSError:
        return False
