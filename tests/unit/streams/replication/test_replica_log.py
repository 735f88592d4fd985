"""The replica topic is written to by a new producer after a broker was away: the old one never recovers."""

from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.errors import BrokerUnavailableError, NotAcknowledgedError
from thalweg.streams.replication import replica_log
from thalweg.streams.replication.replica_log import KafkaReplicaLog, LogRecord

RECORDS = [LogRecord(key=b"k", value=b"{}")]


class Producer:
    """Acknowledges everything, or, once it has given something up, nothing any more."""

    made = 0
    away = False

    def __init__(self, **_: Any) -> None:
        if Producer.away:
            raise KafkaTimeoutError("nobody answers")
        Producer.made += 1
        self.fatal = False

    def send(self, *_: Any, **__: Any) -> "Producer":
        return self

    def flush(self, timeout: float) -> None:
        self.fatal = self.fatal or Producer.away
        if self.fatal:
            raise KafkaTimeoutError("expired")

    def get(self, timeout: float) -> Any:
        return type("Sent", (), {"offset": 6})

    def succeeded(self) -> bool:
        return not self.fatal

    def close(self, **_: Any) -> None:
        pass


def test_a_broker_that_returns_is_written_to_by_a_new_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_log, "KafkaProducer", Producer)
    monkeypatch.setattr(replica_log, "close_producer", lambda producer, seconds: producer.close())
    monkeypatch.setattr(Producer, "away", False)
    monkeypatch.setattr(Producer, "made", 0)
    log = KafkaReplicaLog(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    assert log.publish(RECORDS) == 7
    monkeypatch.setattr(Producer, "away", True)
    with pytest.raises(NotAcknowledgedError):
        log.publish(RECORDS)
    with pytest.raises(BrokerUnavailableError):
        log.publish(RECORDS)
    monkeypatch.setattr(Producer, "away", False)
    assert log.publish(RECORDS) == 7
    assert Producer.made == 2
