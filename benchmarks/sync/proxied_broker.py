"""A real broker with one more listener per region, each reached only through that region's proxy."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from thalweg.benchmarks.sync.proxy import Proxy
from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import find_java
from thalweg.conf.settings import KafkaSettings
from thalweg.processes.ports import LOOPBACK, free_port
from thalweg.stack.broker import Broker, BrokerDoor


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedBroker:
    """The broker's direct address, and each region's way to it."""

    bootstrap: str
    proxies: dict[str, Proxy]

    def kafka(self, region: str, prefix: str) -> KafkaSettings:
        """Settings of a client in that region."""
        return KafkaSettings(
            bootstrap_servers=f"{LOOPBACK}:{self.proxies[region].port}", topic_prefix=prefix, request_timeout_ms=3_000
        )


@contextmanager
def proxied_broker(
    folder: Path, regions: tuple[str, ...], *, delay_s: float = 0.0, loss: float = 0.0
) -> Iterator[ProxiedBroker]:
    """Run a broker whose clients in a region see the proxy's address as the broker's own.

    Args:
        folder: the broker's.
        regions: each gets a listener and a proxy.
        delay_s: of each proxy, one way.
        loss: share of chunks that wait for a retransmission.
    """
    ensure_jars(find_java())
    with ExitStack() as stack:
        taken: list[int] = []
        proxies: dict[str, Proxy] = {}
        for region in regions:
            taken.append(free_port(taken=taken))
            proxies[region] = stack.enter_context(Proxy(taken[-1], delay_s=delay_s, loss=loss, seed=len(taken)))

        doors = [
            BrokerDoor(name=f"REGION{number}", listens=port, told=proxies[region].port)
            for number, (region, port) in enumerate(zip(regions, taken, strict=True))
        ]
        running = stack.enter_context(Broker(folder, doors=doors))
        yield ProxiedBroker(bootstrap=running.bootstrap, proxies=proxies)
