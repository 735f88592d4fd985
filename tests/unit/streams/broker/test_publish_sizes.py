"""A call of which one record is too large is refused as a whole, and a topic's limit is the largest that is not."""

import pytest

from thalweg.streams.broker.publish import MessageTooLargeError, OutgoingRecord, check_sizes


def sized(size: int, *, limit: int = 10_000, key: bytes | None = b"k") -> OutgoingRecord:
    empty = OutgoingRecord(topic="t.requests", key=key, value=b"", headers=[("id", b"1")], max_bytes=limit)
    record = OutgoingRecord(
        topic="t.requests", key=key, value=b"x" * (size - empty.size_bytes()), headers=[("id", b"1")], max_bytes=limit
    )
    assert record.size_bytes() == size
    return record


@pytest.mark.parametrize("key", [b"k", None])
def test_a_record_as_large_as_its_topic_allows_goes(key: bytes | None) -> None:
    check_sizes([sized(10_000, key=key), sized(9_999, key=key), sized(300, limit=300, key=key)])


def test_the_first_that_is_larger_is_named_with_its_size_and_the_limit() -> None:
    with pytest.raises(MessageTooLargeError) as caught:
        check_sizes([sized(10_000), sized(10_001, key=b"too large"), sized(20_000)])
    words = str(caught.value)
    assert "too large" in words and "t.requests" in words and "10,001" in words and "10,000" in words
