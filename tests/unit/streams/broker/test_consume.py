"""What a reader makes of a poll that fails: a broker that is away is silence, records that cannot be read are none."""

from collections.abc import Callable
from typing import Any

import pytest
from kafka.errors import CorruptRecordError, KafkaConnectionError, UnsupportedCodecError

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker import consume
from thalweg.streams.broker.errors import UnreadableError


class Consumer:
    """Fails as it is told to."""

    error: BaseException = KafkaConnectionError()

    def __init__(self, **_: Any) -> None:
        self.polls = 0

    def partitions_for_topic(self, name: str) -> set[int]:
        return {0}

    def assign(self, partitions: list[Any]) -> None: ...

    def seek_to_beginning(self, partition: Any) -> None: ...

    def poll(self, timeout_ms: int) -> dict[Any, Any]:
        self.polls += 1
        raise self.error


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], consume.KafkaReader]:
    def make(error: BaseException) -> consume.KafkaReader:
        monkeypatch.setattr(Consumer, "error", error)
        monkeypatch.setattr(consume, "KafkaConsumer", Consumer)
        return consume.KafkaReader(KafkaSettings(), topics=["t"])

    return make


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), OSError("no route")])
def test_a_broker_that_is_away_looks_like_silence(
    reader: Callable[[BaseException], consume.KafkaReader], error: BaseException
) -> None:
    read = reader(error)
    assert [read.poll(0), read.poll(0)] == [[], []]


@pytest.mark.parametrize("error", [UnsupportedCodecError("zstd"), CorruptRecordError("crc"), ValueError("of its own")])
def test_records_that_cannot_be_read_are_no_silence_and_are_not_asked_for_again(
    reader: Callable[[BaseException], consume.KafkaReader], error: BaseException
) -> None:
    read = reader(error)
    for _ in range(2):
        with pytest.raises(UnreadableError, match="t"):
            read.poll(0)
    assert read._consumer.polls == 1
