"""A record's partition is what Kafka's own clients choose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner import DefaultPartitioner

from thalweg.streams.broker.partitions import KeyPartitioner


class Cluster:
    """What a producer knows of one topic."""

    def __init__(self, partitions: set[int]) -> None:
        self.partitions = partitions

    def topics(self) -> set[str]:
        return {"t"}

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.partitions if topic == "t" else None

    available_partitions_for_topic = partitions_for_topic


@given(key=st.binary(max_size=64), count=st.integers(1, 50))
def test_a_key_goes_where_the_default_sends_it(key: bytes, count: int) -> None:
    cluster = Cluster(set(range(count)))
    ours, theirs = (kind().partition("t", key, key, b"", b"", cluster) for kind in (KeyPartitioner, DefaultPartitioner))
    assert ours == theirs


@given(count=st.integers(1, 5))
def test_without_a_key_it_goes_to_one_that_is_there(count: int) -> None:
    assert KeyPartitioner().partition("t", None, None, b"", b"", Cluster(set(range(count)))) in range(count)


def test_an_unknown_topic_is_an_error() -> None:
    with pytest.raises(ValueError, match="u not found"):
        KeyPartitioner().partition("u", b"k", b"k", b"", b"", Cluster({0}))
