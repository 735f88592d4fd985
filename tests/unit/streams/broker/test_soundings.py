"""Where topics end, as the broker says it: ours alone, and nothing of a partition that nobody can write to."""

from typing import Any, ClassVar

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker import soundings
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.streams.broker.soundings import TopicEnds


class Consumer:
    """A broker with two topics of ours, one partition of which has no leader, and one of others."""

    ends: ClassVar = {("t.status.a", 0): 7, ("t.status.a", 1): 0, ("t.status.b", 0): 3, ("others", 0): 9}
    leaderless = frozenset({("t.status.b", 0)})
    made: ClassVar[list["Consumer"]] = []

    def __init__(self, **options: Any) -> None:
        assert options["allow_auto_create_topics"] is False and options["group_id"] is None
        self.closed = False
        self.fails: Exception | None = None
        self._cluster = self
        self.made.append(self)

    def topics(self) -> set[str]:
        if self.fails is not None:
            raise self.fails
        return {name for name, _ in self.ends}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {number for name, number in self.ends if name == topic}

    def available_partitions_for_topic(self, topic: str) -> set[int] | None:
        return {number for number in self.partitions_for_topic(topic) if (topic, number) not in self.leaderless} or None

    def end_offsets(self, places: list[TopicPartition], *, timeout_ms: int) -> dict[TopicPartition, int]:
        assert places, "who asks for nothing waits for nothing"
        assert not {(place.topic, place.partition) for place in places} & self.leaderless, "it would wait for a leader"
        return {place: self.ends[place.topic, place.partition] for place in places}

    def close(self, **_: Any) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundings, "KafkaConsumer", Consumer)
    monkeypatch.setattr(Consumer, "made", [])


def test_each_partition_of_our_topics_ends_somewhere_but_for_those_without_a_leader() -> None:
    looking = TopicEnds(KafkaSettings(), r"t\.status\..+")
    assert looking.look() == {"t.status.a": {0: 7, 1: 0}, "t.status.b": {0: None}}
    looking.look()
    assert len(Consumer.made) == 1, "one connection"


def test_where_there_is_no_topic_of_ours_or_none_has_a_leader_nothing_is_asked() -> None:
    assert TopicEnds(KafkaSettings(), "none").look() == {}
    assert TopicEnds(KafkaSettings(), r"t\.status\.b").look() == {"t.status.b": {0: None}}


def test_a_look_that_fails_is_an_absent_broker_and_the_next_one_connects_anew() -> None:
    looking = TopicEnds(KafkaSettings(), r"t\.status\..+")
    looking.look()
    Consumer.made[0].fails = KafkaTimeoutError("no answer")
    with pytest.raises(BrokerUnavailableError):
        looking.look()
    assert Consumer.made[0].closed
    assert looking.look()["t.status.a"] == {0: 7, 1: 0}
    assert len(Consumer.made) == 2
