"""A TCP proxy between a client and the broker that delays, loses, cuts and restores.

TCP hides loss from its users: a lost segment is a pause of one retransmission timeout and everything behind it waits.
That is what `loss` does to a chunk here.
"""

import contextlib
import random
import socket
import threading
import time
from collections import deque
from typing import Self

RETRANSMIT_S = 0.2  # Linux's least retransmission timeout
CHUNK_BYTES = 16_384


class Proxy:
    """Forwards a port of its own to another port of this machine."""

    def __init__(self, target_port: int, *, delay_s: float = 0.0, loss: float = 0.0, seed: int = 0) -> None:
        self._target_port = target_port
        self.delay_s = delay_s  # one way
        self.loss = loss
        self._random = random.Random(seed)
        self._is_cut = threading.Event()
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self.port: int = self._server.getsockname()[1]
        self.bytes_forwarded = 0

    def __enter__(self) -> Self:
        """Begin to forward."""
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self._closing.set()
        self._thread.join()
        self._server.close()
        self._drop_all()

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._is_cut.set()
        self._drop_all()

    def restore(self) -> None:
        """Let connections through again."""
        self._is_cut.clear()

    def _drop_all(self) -> None:
        with self._lock:
            for one in self._sockets:
                _shut(one)
            self._sockets.clear()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            if self._is_cut.is_set():
                client.close()
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, broker}
            for source, sink in ((client, broker), (broker, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Pipe(self, source, sink).start()

    def pause_s(self) -> float:
        """How long the next chunk is on its way."""
        return self.delay_s + (RETRANSMIT_S if self._random.random() < self.loss else 0.0)


class Pipe:
    """One direction of one connection: chunks leave in order, each when its time has come."""

    def __init__(self, proxy: Proxy, source: socket.socket, sink: socket.socket) -> None:
        self._proxy = proxy
        self._source = source
        self._sink = sink
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._ready = threading.Condition()
        self._done = False

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()

    def _read(self) -> None:
        due = 0.0
        while True:
            try:
                chunk = self._source.recv(CHUNK_BYTES)
            except OSError:
                chunk = b""
            with self._ready:
                if not chunk:
                    self._done = True
                    self._ready.notify()
                    return
                due = max(due, time.monotonic() + self._proxy.pause_s())
                self._chunks.append((due, chunk))
                self._proxy.bytes_forwarded += len(chunk)
                self._ready.notify()

    def _write(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._chunks or self._done)
                if not self._chunks:
                    break
                due, chunk = self._chunks.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                self._sink.sendall(chunk)
            except OSError:
                break
        _shut(self._source)
        _shut(self._sink)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
