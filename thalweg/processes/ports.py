"""Find free TCP ports on the loopback interface."""

import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"
# Below the range from which kernels take the source ports of outgoing connections (32768 up on Linux): a port found
# free here is not taken by somebody's connection in the second before its server binds it.
FIRST_PORT = 20_000
LAST_PORT = 32_000


class NoFreePortError(Exception):
    """Every port of the range is taken."""

    def __init__(self) -> None:
        super().__init__(f"No free TCP port between {FIRST_PORT} and {LAST_PORT}; end what listens there: ss -ltnp")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now."""
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
