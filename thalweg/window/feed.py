"""What happens, as events for any number of listeners: the newest in memory, older ones from the ledger.

A listener is no queue but a place in the ledger: whoever is slow, or was away (Last-Event-ID), goes on from where they
were and misses nothing. An event's id is its row's position, `driver epoch-batch-row`, and which ledger that is in. Who
comes with a place in another ledger, or beyond this one's end, is told so (`anew`), and hears what happens from now on.
"""

import asyncio
import hashlib
import re
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from thalweg.query.reports.followed_tasks import LedgerEvent
from thalweg.query.sql.plain import plain
from thalweg.sync.ledger.reading import Position
from thalweg.window.discretion import names_others, without_others

MOST_KEPT: Final = 20_000
_SLACK: Final = 20
"""A twentieth more is kept before the oldest are let go, all at once."""
_AT_ONCE: Final = 1_000
"""Events that one write carries."""
_BEAT_S: Final = 15.0
"""A listener hears something at least so often: proxies end what is silent for a minute, many for half of one."""
_ID: Final = re.compile(r"(\d{1,18})-(\d{1,18})-(\d{1,9})(?:-([0-9a-f]{8}))?")


@dataclass(frozen=True, slots=True)
class ToldEvent:
    """An event as it is sent."""

    position: Position
    tenant: str | None
    text: bytes
    discreet: bytes
    """As a key of the tenant is told it: no other tenant's task is named."""

    def for_(self, tenant: str | None) -> bytes:
        """Give the text for a listener of one tenant, or of all."""
        return self.text if tenant is None else self.discreet


@dataclass(frozen=True, slots=True)
class EventPlace:
    """What an event's id says."""

    position: Position
    ledger: str = ""
    """Mark of the ledger that it is a place in; "" where the id does not say."""


def event_id(position: Position, ledger: str = "") -> str:
    """Write an event's id."""
    return "-".join(map(str, position)) + (f"-{ledger}" if ledger else "")


def place_named(text: str) -> EventPlace | None:
    """Read an event's id; None where it is none."""
    found = _ID.fullmatch(text.strip())
    if found is None:
        return None
    *numbers, ledger = found.groups()
    return EventPlace(Position(*map(int, numbers)), ledger or "")


def ledger_mark(ledger_id: str | None) -> str:
    """Shorten what a ledger is known by."""
    return hashlib.sha256(ledger_id.encode()).hexdigest()[:8] if ledger_id else ""


def told(event: LedgerEvent, task: Mapping[str, Any] | None = None, ledger: str = "") -> ToldEvent:
    """Write an event of a ledger, with the task as it is now where that is known."""
    content: dict[str, Any] = {
        "task_id": event.task_id,
        "change": event.transition,
        "copy": event.copy,
        "epoch": event.epoch,
        "region": event.region,
        "reason": event.reason,
        "tenant": event.tenant if task is None else task["tenant"],
        "at": event.decided_at,
    }
    if task is not None:
        content["task"] = task
    name = event_id(event.position, ledger)
    text = _written(name, content)
    discreet = _written(name, without_others(content)) if names_others(text.decode()) else text
    return ToldEvent(event.position, content["tenant"], text, discreet)


def _written(name: str, content: Mapping[str, Any]) -> bytes:
    body = msgspec.json.encode(plain(content)).decode()
    return f"id: {name}\nevent: change\ndata: {body}\n\n".encode()


class Feed:
    """See the module's words. For one event loop; `tell` may be called from any thread."""

    def __init__(
        self, read_after: Callable[[Position, int], Sequence[LedgerEvent]], most_kept: int = MOST_KEPT
    ) -> None:
        """Prepare.

        Args:
            read_after: reads so many events behind a position from the ledger.
            most_kept: events that are kept in memory.
        """
        self._read_after = read_after
        self._most_kept = most_kept
        self._kept: list[ToldEvent] = []
        self._floor: Position | None = None
        """All that lies behind it is kept; None where all there is is kept, of a ledger that was empty at first."""
        self.ledger = ""
        """Mark of the ledger that is told of; part of its events' ids."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        self._reading: dict[Position, asyncio.Future[Sequence[ToldEvent]]] = {}
        self.listeners = 0

    @property
    def newest(self) -> Position | None:
        """Where the ledger is, as far as it was told."""
        return self._kept[-1].position if self._kept else self._floor

    def recent(self, limit: int, tenant: str | None) -> list[bytes]:
        """Give the bodies of the newest events, the newest first."""
        mine = [event for event in self._kept[-5 * limit :] if tenant is None or event.tenant == tenant]
        return [event.for_(tenant).split(b"data: ", 1)[1].strip() for event in mine[: -limit - 1 : -1]]

    def begin(self, position: Position | None, ledger: str = "") -> None:
        """Begin anew behind a position of a ledger: what lies before is read from it by whoever asks."""
        self._call(self._begin, (position, ledger))

    def tell(self, events: Sequence[ToldEvent]) -> None:
        """Tell what happened, in the ledger's order."""
        self._call(self._tell, events)

    def bind(self) -> None:
        """Belong to the running event loop."""
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()

    def _call(self, do: Callable[[Any], None], what: Any) -> None:
        if self._loop is None:
            do(what)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(do, what)

    def _begin(self, where: tuple[Position | None, str]) -> None:
        self._kept.clear()
        self._floor, self.ledger = where
        self._wake()

    def _tell(self, events: Sequence[ToldEvent]) -> None:
        self._kept.extend(events)
        if len(self._kept) > self._most_kept + self._most_kept // _SLACK:
            self._floor = self._kept[-self._most_kept - 1].position
            del self._kept[: -self._most_kept]
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        if news is not None:
            news.set()

    async def follow(self, after: EventPlace | None, tenant: str | None) -> AsyncGenerator[bytes, None]:
        """Give what happens behind a position, or from now on, for ever; a beat where nothing does.

        Args:
            after: the last event that the listener has.
            tenant: only this one's; None means all.
        """
        self.listeners += 1
        at, ledger = (self.newest, self.ledger) if after is None else (after.position, after.ledger)
        is_placed = after is None
        try:
            yield b"retry: 1000\n\n" + (b"" if at is None else self._sign("hello", at, ledger))
            while True:
                news = self._news
                if not self._is_of(ledger) or (not is_placed and self._is_beyond(at)):
                    at, is_placed = self.newest, True
                    if at is not None:
                        yield self._sign("anew", at, self.ledger)
                is_placed, ledger = is_placed or self.newest is not None, self.ledger or ledger
                events = await self._behind(at)
                if events:
                    at = events[-1].position
                    mine = [event.for_(tenant) for event in events if tenant is None or event.tenant == tenant]
                    if mine:
                        yield b"".join(mine)
                    continue
                try:
                    if news is None:
                        await asyncio.sleep(_BEAT_S)
                    else:
                        await asyncio.wait_for(news.wait(), _BEAT_S)
                except TimeoutError:
                    yield b": beat\n\n"
        finally:
            self.listeners -= 1

    def _sign(self, event: str, at: Position, ledger: str) -> bytes:
        return f"id: {event_id(at, ledger)}\nevent: {event}\ndata: {{}}\n\n".encode()

    def _is_of(self, ledger: str) -> bool:
        """Tell whether a place may be one of this ledger; before anything is read, every one may."""
        return not ledger or not self.ledger or ledger == self.ledger

    def _is_beyond(self, at: Position | None) -> bool:
        return at is not None and self.newest is not None and at > self.newest

    async def _behind(self, at: Position | None) -> Sequence[ToldEvent]:
        if at is None or self._floor is None or at >= self._floor:
            first = 0 if at is None else bisect_right(self._kept, at, key=lambda event: event.position)
            return self._kept[first : first + _AT_ONCE]
        return await self._read(at)

    async def _read(self, at: Position) -> Sequence[ToldEvent]:
        """Read older events from the ledger, once for all who are at the same place.

        After a start of the window, hundreds come back at once with the same last event.
        """
        reading = self._reading.get(at)
        if reading is None:
            reading = self._reading[at] = asyncio.ensure_future(asyncio.to_thread(self._read_told, at))
            reading.add_done_callback(lambda _: self._reading.pop(at, None))
        return await asyncio.shield(reading)  # who leaves takes it from nobody

    def _read_told(self, at: Position) -> Sequence[ToldEvent]:
        return [told(event, ledger=self.ledger) for event in self._read_after(at, _AT_ONCE)]
