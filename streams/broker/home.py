"""A process stays with the Kafka cluster that first answered it at an address.

An address says where somebody listens, not who: while a broker is away, another installation's may take its port. Every
connection of ours, the first as well as each that is made anew, asks for the cluster's id before anything else is sent
on it; on another cluster's nothing is read and nothing written. Its own broker counts as away for as long, and whoever
waits for it goes on waiting.

`HomeClient` is what kafka-python's producer, consumer and admin client are given as `kafka_client`
(`streams.broker.connection`): all of them make their connections through its manager.
"""

import logging
import threading
from functools import partial
from typing import Any, Final

from kafka.errors import KafkaConnectionError, KafkaTimeoutError
from kafka.net import KafkaConnection, KafkaConnectionManager, KafkaNetClient
from kafka.net.selector import NetworkSelector
from kafka.protocol.metadata import MetadataRequest

from thalweg.conf.log_pace import Paced
from thalweg.streams.broker.errors import ForeignClusterError

TELL_EVERY_S: Final = 10.0

log = logging.getLogger("thalweg.home")
log.addFilter(Paced(TELL_EVERY_S))


class RefusedClusterError(ForeignClusterError, KafkaConnectionError):  # type: ignore[misc] # untyped
    """As kafka-python knows it: a connection that could not be made, to be tried again."""

    __hash__ = Exception.__hash__

    def __str__(self) -> str:
        """Say only what a person needs."""
        return Exception.__str__(self)


class Homes:
    """Which cluster is meant, by address. Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meant: dict[str, str] = {}

    def settle(self, address: str, cluster: str) -> None:
        """Say whose the address is, as whoever started the broker there knows."""
        with self._lock:
            self._meant[address] = cluster

    def first(self, address: str, cluster: str) -> str:
        """Return whose the address is: who was settled, or answered first, which this cluster may be."""
        with self._lock:
            return self._meant.setdefault(address, cluster)


HOMES: Final = Homes()
"""Of this process, whichever of its clients connect: a producer made anew is no new beginning."""


class HomeManager(KafkaConnectionManager):  # type: ignore[misc] # untyped
    """Makes connections, and gives them out only when they lead home."""

    def __init__(self, net: NetworkSelector, *, homes: Homes = HOMES, **configs: Any) -> None:
        super().__init__(net, **configs)
        self._homes = homes
        servers = self.config["bootstrap_servers"]
        self._address = servers if isinstance(servers, str) else ",".join(servers)
        self._meant: str | None = None  # one client never changes over, whatever is settled later
        self._refused: RefusedClusterError | None = None

    async def _connect(self, node: Any, conn: KafkaConnection, *args: Any, **options: Any) -> None:
        conn.initialize = partial(self._initialize, conn)
        await super()._connect(node, conn, *args, **options)

    async def _initialize(self, conn: KafkaConnection, timeout_at: float | None = None) -> None:
        """Do what the connection's own `initialize` does, with one question more before its waiting requests leave."""
        try:
            await conn._get_api_versions(timeout_at)
            if conn.sasl_enabled:
                await conn._sasl_authenticate(timeout_at)
            await self._ask_home(conn, timeout_at)
        except Exception as error:
            conn.close(error)
            raise  # so that the next attempt waits longer
        conn._init_complete()

    async def _ask_home(self, conn: KafkaConnection, timeout_at: float | None) -> None:
        request = MetadataRequest(topics=MetadataRequest.NO_TOPICS, allow_auto_topic_creation=False)
        answer = await conn._send_request(request, timeout_at=timeout_at)
        if not answer.cluster_id:
            return  # brokers before 0.10.1 have no id
        self._meant = self._meant or self._homes.first(self._address, answer.cluster_id)
        if answer.cluster_id == self._meant:
            self._refused = None
            return
        self._refused = RefusedClusterError(self._address, found=answer.cluster_id, meant=self._meant)
        log.warning("%s", self._refused)
        raise self._refused

    async def _do_bootstrap(self, deadline: float | None) -> bool:
        try:
            found: bool = await super()._do_bootstrap(deadline)
        except KafkaTimeoutError as error:
            if self._refused is not None:
                raise self._refused from error
            raise
        return found


class HomeClient(KafkaNetClient):  # type: ignore[misc] # untyped
    """kafka-python's client, whose connections lead to one cluster only."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net=net, manager=HomeManager(net, **configs), **configs)
