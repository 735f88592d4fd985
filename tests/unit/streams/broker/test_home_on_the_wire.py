"""The guard within kafka-python's real clients, over a socket: a broker that says no more than whose it is."""

import socketserver
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kafka.protocol.metadata import ApiVersionsResponse, MetadataResponse

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker import home
from thalweg.streams.broker.admin import existing_topics
from thalweg.streams.broker.errors import BrokerUnavailableError

METADATA, API_VERSIONS = 3, 18


class Broker(socketserver.ThreadingTCPServer):
    """Answers in version 4 of Metadata, as a broker of the named cluster without a topic."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, cluster: str) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.cluster = cluster
        self.asked: list[int] = []

    def answer(self, key: int) -> Any:
        if key == API_VERSIONS:
            known = ApiVersionsResponse.ApiVersion
            keys = [known(api_key=METADATA, min_version=1, max_version=4), known(API_VERSIONS, 0, 0)]
            return ApiVersionsResponse(error_code=0, api_keys=keys), 0
        host, port = self.server_address[:2]
        node = MetadataResponse.MetadataResponseBroker(node_id=1, host=str(host), port=port, rack=None)
        return MetadataResponse(
            throttle_time_ms=0, brokers=[node], cluster_id=self.cluster, controller_id=1, topics=[]
        ), 4


class Conversation(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        broker: Any = self.server
        while len(size := self.rfile.read(4)) == 4:
            request = self.rfile.read(struct.unpack(">i", size)[0])
            key, version, correlation = struct.unpack(">hhi", request[:8])
            broker.asked.append(key)
            if key == API_VERSIONS and version:
                body = struct.pack(">hihhh", 35, 1, API_VERSIONS, 0, 0)
            else:
                message, spoken = broker.answer(key)
                body = message.encode(version=spoken)
            frame = struct.pack(">i", correlation) + body
            self.wfile.write(struct.pack(">i", len(frame)) + frame)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    served = Broker("ours")
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def test_a_real_client_takes_its_own_and_no_other(broker: Broker) -> None:
    address = f"127.0.0.1:{broker.server_address[1]}"
    kafka = KafkaSettings(bootstrap_servers=address, request_timeout_ms=2_000)
    assert existing_topics(kafka) == {}
    broker.cluster = "theirs"
    with pytest.raises(BrokerUnavailableError, match=r"another Kafka cluster answers at .*: theirs, where .* ours"):
        existing_topics(kafka)
    broker.cluster = "ours"
    assert existing_topics(kafka) == {}
    home.HOMES.settle(address, "theirs")
    with pytest.raises(BrokerUnavailableError, match="another Kafka cluster"):
        existing_topics(kafka)
