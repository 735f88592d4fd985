"""Topics that are made anew: offsets begin at 0 again, and nothing is taken for a repetition or for read."""

from tests.unit.sync.centre.test_centre import NOW, Pair, plain, put
from thalweg.sync.centre.centre import KEPT_ALONE_MS, KEPT_CLOSED, Centre
from thalweg.sync.centre.known_regions import image
from thalweg.sync.protocol.changes import Assign, Delete, Increment
from thalweg.sync.protocol.entries import DigestEntry, Heartbeat
from thalweg.sync.protocol.records import view
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import Replica


def again(centre: Centre, position: int, topic: str = "", **state_topics: str) -> Centre:
    """Start a centre from what another made durable."""
    other = Centre(
        centre.records,
        centre.recents,
        [image(life) for life in centre.regions.values()],
        position=position,
        forgotten_through=centre.forgotten_through,
        topic=topic,
    )
    other.meet_topics(state_topics)
    return other


def test_plain_writes_of_a_topic_made_anew_count_on() -> None:
    first = Centre()
    first.meet_topics({"eu": "topic-1"})
    first.merge_batch([plain(Assign("f", "old"), 1_000), plain(Increment("n", 1), 1_001)], NOW)
    second = again(first, 0, eu="topic-2")
    news = [second.numbered(plain(Assign("f", "new"), 1, NOW + 5)), second.numbered(plain(Increment("n", 10), 2))]
    assert second.merge_batch(news, NOW + 10).repeated == 0
    assert view(second.records["k"]) == {"f": "new", "n": 11}
    assert second.merge_batch(news, NOW + 20).repeated == 2, "the same batch again"
    third = again(second, 0, eu="topic-2")
    assert third.merge_batch([third.numbered(plain(Assign("f", "new"), 1, NOW + 5))], NOW + 30).repeated == 1
    fourth = again(third, 0, eu="topic-3")
    assert fourth.merge_batch([fourth.numbered(plain(Increment("n", 100), 1))], NOW + 40).repeated == 0
    assert view(fourth.records["k"])["n"] == 111  # type: ignore[index]


def test_positions_in_the_topic_before_acknowledge_nothing() -> None:
    pair = Pair(topic="topic-1", position=0)
    a, b = pair.join("a"), pair.join("b")
    for replica in (a, b):
        replica.read_topic("topic-1")
    pair.exchange(a, b)
    old_heartbeat = a.heartbeat(NOW)
    assert old_heartbeat.position > 0
    centre = pair.centre = again(pair.centre, 0, topic="topic-2")
    pair.log = list(centre.everything(pair.now))
    centre.published(len(pair.log))
    b.read_topic("topic-2")
    put(b, "k", Assign("x", "b"), pair.now)
    write = put(a, "k", Assign("x", "a"), pair.now)
    pair.take(*b.outgoing(), b.heartbeat(pair.now))
    for _ in range(3):
        pair.take(Heartbeat(**{**_fields(old_heartbeat), "last_seq": 0, "position": len(pair.log)}))
        pair.take(b.heartbeat(pair.now))
        pair.read(b)
    assert len(pair.take(write).conflicts) == 1


def test_a_topic_made_anew_is_read_from_its_beginning() -> None:
    replica = Replica("eu", MemoryStore())
    replica.read_topic("topic-1")
    replica.apply([], 7, NOW)
    replica.read_topic("topic-1")
    assert replica.state.position == 7
    replica.read_topic("topic-2")
    assert (replica.state.position, replica.state.topic) == (0, "topic-2")


def test_a_digest_of_another_size_is_no_disagreement_and_raises_nothing() -> None:
    replica = Replica("a", MemoryStore())
    replica.apply([DigestEntry(buckets="00")], 1, NOW)
    assert replica.digest_agrees is None and replica.repair_request() is None and replica.state.position == 1


def test_tombstones_of_plain_producers_alone_are_forgotten_when_they_are_old() -> None:
    centre = Centre()
    for number in range(200):
        centre.merge_batch(
            [
                plain(Assign("v", 1), 2 * number + 1, NOW + number, key=f"k{number}"),
                plain(Delete(), 2 * number + 2, NOW + number + 1, key=f"k{number}"),
            ],
            NOW + number,
        )
    centre = again(centre, 0)
    assert len(centre.records) == 200
    later = NOW + KEPT_ALONE_MS + 1_000
    out = centre.merge_batch([plain(Assign("v", 1), 1_000, later, key="z")], later)
    assert len(out.forgotten) == 200 and list(centre.records) == ["z"]
    assert list(centre.recents) == ["z"]
    late = centre.merge_batch([plain(Assign("v", 1), 1_001, NOW, key="k3")], later + 1)
    assert "forgotten" in late.refused[0].reason


def test_a_region_that_begins_afterwards_holds_tombstones_back_as_ever() -> None:
    pair = Pair()
    pair.take(plain(Assign("v", 1), 1), plain(Delete(), 2, NOW + 1))
    eu = pair.join("eu")
    pair.now += KEPT_ALONE_MS + 10_000
    assert pair.take(plain(Assign("v", 1), 3, pair.now, key="z")).forgotten == []
    assert [key for _ in range(3) for key in pair.exchange(eu).forgotten] == ["k"]


def test_lives_that_no_record_names_are_let_go() -> None:
    pair = Pair()
    for number in range(3 * KEPT_CLOSED):
        pair.now += 100_000
        replica = Replica("eu", MemoryStore())
        pair.read(replica)
        pair.take(replica.join(pair.now))
        pair.read(replica)
        put(replica, "k", Increment("c", 1), pair.now) if number == 0 else None
        pair.exchange(replica)
    closed = pair.centre.regions["eu"].closed
    assert len(closed) == KEPT_CLOSED + 1
    assert next(iter(closed)) in pair.centre.records["k"].vector


def _fields(heartbeat: Heartbeat) -> dict[str, object]:
    return {name: getattr(heartbeat, name) for name in heartbeat.__struct_fields__}
