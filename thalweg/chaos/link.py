"""A network cable that can be bad: a TCP relay in front of the broker, for one process or a few.

The broker has a listener for each link and tells its clients the link's address, so nobody gets around it.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from thalweg.processes.ports import LOOPBACK

CHUNK: Final = 65_536
SLOW_BYTES_PER_S: Final = 200_000
"""What a slow link carries in each direction of each connection."""


UNREACHABLE_S: Final = 0.5
"""Without it a client that finds nobody behind the link would try again at once: it was connected, after all."""


@dataclass(slots=True, kw_only=True)
class Link:
    """Relays from one port to another, on a thread of its own. Any thread may change how it is."""

    listens: int
    to: int
    name: str
    _delay_s: float = 0.0
    _cut: bool = False
    _passes: asyncio.Event = field(init=False)
    _tasks: set["asyncio.Task[Any]"] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread = field(init=False)
    _server: asyncio.Server = field(init=False)

    def __post_init__(self) -> None:
        """Make its thread; nothing is relayed yet."""
        self._passes = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"link-{self.name}", daemon=True)

    # How it is

    def be_slow(self, delay_ms: float) -> None:
        """Delay every chunk in each direction, and carry only so much; 0 is as fast as it can be."""
        self._delay_s = delay_ms / 1000

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._cut = True
        self._do(self._break())

    def half_open(self) -> None:
        """Keep all connections, take new ones, and carry nothing: nobody is told."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def mend(self) -> None:
        """Be a good link again."""
        self._cut, self._delay_s = False, 0.0
        self._loop.call_soon_threadsafe(self._passes.set)

    # How it works

    def __enter__(self) -> Self:
        """Begin to relay."""
        self._thread.start()
        self.mend()
        self._server = self._do(asyncio.start_server(self._take, LOOPBACK, self.listens))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Break everything, and end."""
        self._loop.call_soon_threadsafe(self._server.close)  # a server of asyncio's is of its loop's thread
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=10)

    async def _break(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until one of its ends, or the link, ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await self._relay(reader, writer)
            except OSError:  # nobody is there: who connects is let down as slowly as by a network
                await asyncio.sleep(UNREACHABLE_S)
        writer.transport.abort()
        self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            raise ConnectionRefusedError
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.to)
        ways = [
            asyncio.create_task(self._carry(reader, far_writer)),
            asyncio.create_task(self._carry(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            if self._delay_s:
                await asyncio.sleep(self._delay_s + len(chunk) / SLOW_BYTES_PER_S)
            await self._passes.wait()
            writer.write(chunk)
            await writer.drain()
