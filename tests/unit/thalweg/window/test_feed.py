"""A listener misses nothing: fast, slow, away for a while, or of one tenant alone."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from thalweg.query.reports.followed_tasks import LedgerEvent
from thalweg.sync.ledger.reading import Position
from thalweg.window.feed import EventPlace, Feed, event_id, place_named, told

MOMENT = datetime(2026, 6, 1, tzinfo=UTC)


def event(number: int) -> LedgerEvent:
    return LedgerEvent(
        position=Position(1, number // 3, number % 3),
        task_id=f"t{number}",
        transition="submitted",
        copy=0,
        epoch=0,
        region=None,
        reason=None,
        tenant="ads" if number % 2 else "research",
        decided_at=MOMENT,
        cost_usd_per_hour=None,
    )


EVENTS = [event(number) for number in range(500)]


class Stored:
    """The ledger as the feed reads it; it counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, position: Position, limit: int) -> Sequence[LedgerEvent]:
        self.asked += 1
        return [one for one in EVENTS if one.position > position][:limit]


async def heard(feed: Feed, after: Position | None, until: int, tenant: str | None = None) -> list[str]:
    """Listen until so many events came; give the ids."""
    ids: list[str] = []
    async with aclosing(feed.follow(None if after is None else EventPlace(after), tenant)) as texts:
        async for text in texts:
            parts = text.decode().split("\n\n")
            ids += [part.split("\n")[0].removeprefix("id: ") for part in parts if "event: change" in part]
            if len(ids) >= until:
                break
    return ids


def ids_of(events: Sequence[LedgerEvent]) -> list[str]:
    return [event_id(one.position) for one in events]


def test_who_comes_after_the_first_event_of_a_ledger_that_was_empty_hears_the_next_ones() -> None:
    async def run() -> None:
        stored = Stored()
        feed = Feed(stored)
        feed.bind()
        feed.begin(None, "one")
        feed.tell([told(one, ledger="one") for one in EVENTS[:3]])
        await asyncio.sleep(0)
        latecomers = [asyncio.ensure_future(heard(feed, after, 2)) for after in (None, EVENTS[2].position)]
        returned = await heard(feed, EVENTS[0].position, 2)
        assert returned == [event_id(one.position, "one") for one in EVENTS[1:3]]
        await asyncio.sleep(0)
        feed.tell([told(one, ledger="one") for one in EVENTS[3:5]])
        for latecomer in latecomers:
            assert await latecomer == [event_id(one.position, "one") for one in EVENTS[3:5]]
        assert stored.asked == 0

    asyncio.run(asyncio.wait_for(run(), 60))


def test_listeners_hear_everything_behind_where_they_were() -> None:
    async def scene() -> None:
        stored = Stored()
        feed = Feed(stored, most_kept=50)
        feed.begin(EVENTS[99].position)
        feed.bind()
        listening = [
            asyncio.create_task(heard(feed, None, 400)),  # from now on
            asyncio.create_task(heard(feed, EVENTS[9].position, 490)),  # was away longer than this feed lives
            asyncio.create_task(heard(feed, None, 200, "ads")),
        ]
        await asyncio.sleep(0)
        for start in range(100, 500, 20):
            feed.tell([told(one) for one in EVENTS[start : start + 20]])
            await asyncio.sleep(0.001)
        live, away, ads = await asyncio.gather(*listening)
        assert live == ids_of(EVENTS[100:])
        assert away == ids_of(EVENTS[10:])
        assert ads == ids_of([one for one in EVENTS[100:] if one.tenant == "ads"])
        # Whoever comes back finds what was dropped from memory in the ledger, and the rest in memory.
        asked = stored.asked
        assert await heard(feed, EVENTS[200].position, 299) == ids_of(EVENTS[201:])
        assert stored.asked > asked
        asked = stored.asked
        assert await heard(feed, EVENTS[489].position, 10) == ids_of(EVENTS[490:])
        assert stored.asked == asked
        assert feed.listeners == 0

    asyncio.run(scene())


def test_events_from_a_thread_wake_those_who_wait() -> None:
    async def scene() -> None:
        feed = Feed(Stored())
        feed.begin(EVENTS[0].position)
        feed.bind()
        listening = asyncio.create_task(heard(feed, None, 2))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(feed.tell, [told(EVENTS[1]), told(EVENTS[2])])
        assert await asyncio.wait_for(listening, 900) == ids_of(EVENTS[1:3])

    asyncio.run(scene())


def test_an_event_brings_the_task_and_the_newest_are_told_first() -> None:
    feed = Feed(Stored())
    feed.tell([told(one, {"task_id": one.task_id, "tenant": "vision", "state": "waiting"}) for one in EVENTS[:5]])
    assert [b'"t4"' in feed.recent(5, None)[0], len(feed.recent(3, None)), feed.recent(3, "ads")] == [True, 3, []]
    assert b'"state":"waiting"' in feed.recent(1, "vision")[0]


def test_ids_are_read_back_and_others_are_none() -> None:
    assert place_named(event_id(Position(3, 1204, 17))) == EventPlace(Position(3, 1204, 17))
    assert place_named(event_id(Position(3, 1204, 17), "0a1b2c3d")) == EventPlace(Position(3, 1204, 17), "0a1b2c3d")
    assert [place_named(text) for text in ("", "3", "3-4", "3-4-x", "3-4-5-6", "-1-2-3", "9" * 40)] == [None] * 7


async def signs(feed: Feed, after: EventPlace | None, until: str) -> list[str]:
    """Listen until an event of a kind came; give the kinds and ids of all."""
    found: list[str] = []
    async with aclosing(feed.follow(after, None)) as texts:
        async for text in texts:
            for part in text.decode().split("\n\n"):
                if part.startswith("id: "):
                    where, kind = part.split("\n")[:2]
                    found.append(f"{kind.removeprefix('event: ')} {where.removeprefix('id: ')}")
                    if kind == f"event: {until}":
                        return found
    return found


def test_a_place_of_another_ledger_or_beyond_the_end_begins_anew() -> None:
    async def scene() -> None:
        feed = Feed(Stored())
        feed.bind()
        early = asyncio.create_task(signs(feed, EventPlace(EVENTS[5].position, "00000000"), "anew"))
        await asyncio.sleep(0.01)
        feed.begin(EVENTS[9].position, "0a1b2c3d")
        newest = f"anew {event_id(EVENTS[9].position, '0a1b2c3d')}"
        assert (await asyncio.wait_for(early, 900))[-1] == newest, "it came before anything was read"
        beyond = EventPlace(Position(99, 0, 0))
        for strange in (beyond, EventPlace(EVENTS[2].position, "00000000")):
            assert (await asyncio.wait_for(signs(feed, strange, "anew"), 900))[-1] == newest
        known = EventPlace(EVENTS[7].position, "0a1b2c3d")
        assert (await asyncio.wait_for(signs(feed, known, "change"), 900))[-1].startswith("change "), "it goes on"
        # While it listens another ledger comes in the place of the first.
        live = asyncio.create_task(signs(feed, None, "anew"))
        await asyncio.sleep(0.01)
        feed.begin(EVENTS[3].position, "ffffffff")
        assert (await asyncio.wait_for(live, 900))[-1] == f"anew {event_id(EVENTS[3].position, 'ffffffff')}"

    asyncio.run(scene())


def test_a_herd_that_comes_back_to_the_same_place_reads_the_ledger_once() -> None:
    async def scene() -> None:
        stored = Stored()
        feed = Feed(stored)
        feed.begin(EVENTS[400].position)
        feed.bind()
        came = await asyncio.gather(*(heard(feed, EVENTS[300].position, 100) for _ in range(500)))
        assert all(ids == ids_of(EVENTS[301:401]) for ids in came) or stored.asked == 1
        assert stored.asked == 1

    asyncio.run(scene())
