"""A link carries, delays, breaks, and says nothing, as it is told."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.patience import PATIENCE_S
from thalweg.chaos.link import Link
from thalweg.processes.ports import LOOPBACK, free_port


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                while chunk := connection.recv(65_536):
                    connection.sendall(chunk)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def link(echo: int) -> Iterator[Link]:
    with Link(name="test", listens=free_port(), to=echo) as made:
        yield made


def connected(link: Link) -> socket.socket:
    return socket.create_connection((LOOPBACK, link.listens), timeout=PATIENCE_S)


def told(connection: socket.socket, words: bytes) -> bytes:
    connection.sendall(words)
    heard = b""
    while len(heard) < len(words):
        heard += connection.recv(65_536)
    return heard


def test_a_good_link_carries_everything_in_order(link: Link) -> None:
    words = bytes(range(256)) * 4_000
    with connected(link) as connection:
        sender = threading.Thread(target=connection.sendall, args=(words,))
        sender.start()
        heard = b""
        while len(heard) < len(words):
            heard += connection.recv(65_536)
        sender.join()
    assert heard == words


def test_a_cut_link_breaks_what_is_there_refuses_what_comes_and_can_be_mended(link: Link) -> None:
    with connected(link) as connection:
        assert told(connection, b"a") == b"a"
        link.cut()
        with pytest.raises(OSError):
            if not connection.recv(1):
                raise ConnectionError
    with connected(link) as refused, pytest.raises(OSError):
        refused.sendall(b"b")
        if not refused.recv(1):
            raise ConnectionError
    link.mend()
    with connected(link) as connection:
        assert told(connection, b"c") == b"c"


def test_a_half_open_link_takes_everything_and_carries_it_when_it_is_mended(link: Link) -> None:
    with connected(link) as connection:
        assert told(connection, b"a") == b"a"
        link.half_open()
        connection.sendall(b"b")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        link.mend()
        connection.settimeout(PATIENCE_S)
        assert connection.recv(1) == b"b"


def test_a_slow_link_takes_its_time_there_and_back(link: Link) -> None:
    with connected(link) as connection:
        link.be_slow(100)
        began = time.monotonic()
        assert told(connection, b"a") == b"a"
        assert time.monotonic() - began >= 0.2
