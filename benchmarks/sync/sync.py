"""`bench sync`: how fast changes reach every region, how much the centre takes, and how a cut region catches up.

Broker, job, load and reader are processes of their own on this machine. Regions reach the broker through proxies that
add half the round trip each way and let a share of chunks wait for a retransmission, which is what loss is under TCP.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from deltalake import DeltaTable

from thalweg.benchmarks.sync.proxied_broker import ProxiedBroker, proxied_broker
from thalweg.benchmarks.sync.sync_transfer import transfer
from thalweg.client.replica_client import ReplicaClient
from thalweg.conf.settings import KafkaSettings
from thalweg.stack.machine import describe
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.replication.replica_log import read_entry
from thalweg.sync.protocol.changes import Add, Assign
from thalweg.sync.protocol.entries import RecordEntry

REGIONS: Final = ("ap", "eu", "us")
SAMPLE_S: Final = 0.25
PARTITION_S: Final = 600
"""A cut of ten minutes at the live rate; its writes are made without waiting for the ten minutes to pass."""


def sync(
    *,
    rate: float = 20_000,
    seconds: float = 30,
    warm_up_s: float = 15,
    keys: int = 1_000,
    peak_updates: int = 300_000,
    replica_rate: float = 100,
    replica_seconds: float = 20,
    rtt_ms: float = 100,
    loss: float = 0.01,
    transfer_updates: int = 2_000,
    settings: str = "",
) -> dict[str, Any]:
    """Measure all.

    Args:
        rate: updates a second in all, of the steady run; 0 leaves it out.
        seconds: length of the steady run that is measured.
        warm_up_s: how much longer it runs before that.
        keys: distinct records of each region in the steady run.
        peak_updates: size of the backlog that is taken as fast as possible; 0 leaves it out.
        replica_rate: updates a second in all, between full replicas in files; 0 leaves them and the cut out.
        replica_seconds: how long they write.
        rtt_ms: round trip between a region and the broker.
        loss: share of chunks that are lost once.
        transfer_updates: sent with and without batching and compression, to count the bytes; 0 leaves it out.
        settings: `group.field=value` items for the job, separated by commas.
    """
    document: dict[str, Any] = {
        "name": "sync",
        "machine": describe(),
        "parameters": {
            "rate_updates_per_s": rate,
            "seconds": seconds,
            "warm_up_s": warm_up_s,
            "regions": len(REGIONS),
            "keys_per_region": keys,
            "peak_updates": peak_updates,
            "replica_rate_updates_per_s": replica_rate,
            "replica_seconds": replica_seconds,
            "rtt_ms": rtt_ms,
            "loss": loss,
            "transfer_updates": transfer_updates,
            "settings": settings,
        },
    }
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-") as folder:
        work = Path(folder)
        with proxied_broker(work / "broker", REGIONS, delay_s=rtt_ms / 2000, loss=loss) as links:
            if transfer_updates:
                document["transfer"] = transfer(links, REGIONS[0], transfer_updates)
            if rate or peak_updates:
                ensure_topics(KafkaSettings(bootstrap_servers=links.bootstrap, topic_prefix="load"), REGIONS)
                with _job(work / "load", links.bootstrap, "load", settings) as job:
                    if rate:
                        document["steady"] = _steady(links, job, rate, seconds, warm_up_s, keys)
                    if peak_updates:
                        document["peak"] = _peak(work / "load", links, peak_updates, keys)
            if replica_rate:
                with _job(work / "replicas", links.bootstrap, "replicas", settings):
                    document |= _replicas(work, links, replica_rate, replica_seconds)
    return document


def _steady(
    links: ProxiedBroker, job: subprocess.Popen[bytes], rate: float, seconds: float, warm_up_s: float, keys: int
) -> dict[str, Any]:
    watch = _python(
        "thalweg.benchmarks.sync.sync_watch",
        "--bootstrap",
        links.kafka("us", "load").bootstrap_servers,
        "--prefix",
        "load",
    )
    with _sampled(lambda: _cpu_s(job.pid)) as used:
        sent = _load(
            links.kafka("eu", "load").bootstrap_servers,
            keys,
            "--rate",
            str(rate),
            "--seconds",
            str(warm_up_s + seconds),
        )
    seen = json.loads(watch.communicate(timeout=120)[0])
    from_s = round(sent["start_ms"] / 1000 + warm_up_s)
    ages = _spread([seen["ages"].get(str(second), {}) for second in range(from_s, from_s + int(seconds) - 1)])
    during = [cpu_s for at, cpu_s in used if at >= from_s]
    return {
        "updates_per_s": round(sent["updates"] / sent["seconds"]),
        "latest_send_ms": round(sent["latest_send_s"] * 1000),
        **_percentiles(ages, "change_to_region"),
        "records_seen": len(ages),
        "json_bytes_per_update": round(sent["bytes"] / sent["updates"], 1),
        "cpu_share": {
            "job": round((during[-1] - during[0]) / (len(during) - 1) / SAMPLE_S, 2),
            "load": round(sent["cpu_seconds"] / sent["seconds"], 2),
            "reader": round(seen["cpu_seconds"] / sent["seconds"], 2),
        },
    }


def _peak(folder: Path, links: ProxiedBroker, updates: int, keys: int) -> dict[str, Any]:
    """Send a backlog as fast as it goes, and time the centre on what is left of it when the load has gone."""
    with _sampled(lambda: _received(folder)) as progress:
        sent = _load(links.bootstrap, keys, "--rate", "0", "--count", str(updates))
        loaded = time.time()
        # A load begins new lives, so that what is received counts from 0.
        _until(lambda: bool(progress) and progress[-1][1] == sent["updates"], 120)
    left = [(at, seen) for at, seen in progress if at >= loaded]
    end = next(at for at, seen in left if seen == sent["updates"])
    return {
        "updates": sent["updates"],
        "load_updates_per_s": round(sent["updates"] / sent["seconds"]),
        "left_when_loaded": sent["updates"] - left[0][1],
        "updates_per_s": round((sent["updates"] - left[0][1]) / max(end - left[0][0], SAMPLE_S)),
    }


@contextlib.contextmanager
def _sampled(look: Callable[[], Any]) -> Iterator[list[tuple[float, Any]]]:
    """Look again and again beside the block; give (seconds since 1970, what was seen)."""
    done = threading.Event()
    found: list[tuple[float, Any]] = []

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            found.append((time.time(), look()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


class _Timed(ReplicaClient):
    """A replica that notes when each record's newest write arrived."""

    def __init__(self, region: str, path: Path, kafka: KafkaSettings) -> None:
        super().__init__(region, path, kafka)
        self.arrivals: list[tuple[str, int, int]] = []

    def _apply(self, records: list[IncomingRecord], connection: Any) -> bool:
        again = super()._apply(records, connection)
        now_ms = time.time_ns() // 1_000_000
        for record in records:
            entry = read_entry(record.key, record.value, record.headers)
            if isinstance(entry, RecordEntry):
                self.arrivals.append((entry.record.written.region, entry.record.written.ms, now_ms))
        return again


def _replicas(work: Path, links: ProxiedBroker, rate: float, seconds: float) -> dict[str, Any]:
    """Let full replicas write and read; then cut one off for the writes of ten minutes."""
    with contextlib.ExitStack() as stack:
        clients = {
            region: stack.enter_context(_Timed(region, work / f"{region}.db", links.kafka(region, "replicas")))
            for region in REGIONS
        }
        for client in clients.values():
            assert client.wait_joined(60)
        _write_steadily(list(clients.values()), rate, 5)
        for client in clients.values():
            client.arrivals.clear()
        bytes_before = sum(proxy.bytes_forwarded for proxy in links.proxies.values())
        written = _write_steadily(list(clients.values()), rate, seconds)
        for client in clients.values():
            client.wait_confirmed(60)
        time.sleep(2)
        sent_bytes = sum(proxy.bytes_forwarded for proxy in links.proxies.values()) - bytes_before
        foreign = [
            now_ms - written_ms
            for client in clients.values()
            for region, written_ms, now_ms in client.arrivals
            if region != client.region
        ]
        live = {
            "updates_per_s": round(written / seconds, 1),
            **_percentiles(foreign, "change_to_every_region"),
            "arrivals": len(foreign),
            "bytes_per_update_over_all_links": round(sent_bytes / written),
            "read_us": _read_us(clients["eu"]),
        }
        return {"replicas": live, "catch_up": _catch_up(clients, links, rate)}


def _catch_up(clients: Mapping[str, _Timed], links: ProxiedBroker, rate: float) -> dict[str, Any]:
    live_rate = rate / len(REGIONS)  # what one region writes
    backlog = round(live_rate * PARTITION_S)
    cut, other = clients["eu"], clients["us"]
    links.proxies["eu"].cut()
    for start in range(0, backlog, 500):
        with cut.together():
            for number in range(start, min(start + 500, backlog)):
                cut.put(f"dataset/eu/{number % 5_000}", Assign("size_gb", float(number)), Add("copies", ("eu",)))
    bytes_before = links.proxies["eu"].bytes_forwarded
    links.proxies["eu"].restore()
    restored = time.monotonic()
    assert cut.wait_confirmed(150), f"{cut.lag().waiting} of {backlog} writes were not confirmed in time"
    last = f"dataset/eu/{(backlog - 1) % 5_000}"
    _until(lambda: (other.read(last) or {}).get("size_gb") == float(backlog - 1), 60)
    took_s = time.monotonic() - restored
    return {
        "partition_s": PARTITION_S,
        "live_rate_updates_per_s": round(live_rate, 1),
        "backlog_updates": backlog,
        "seconds": round(took_s, 1),
        "updates_per_s": round(backlog / took_s),
        "times_live_rate": round(backlog / took_s / live_rate, 1),
        "bytes_per_update": round((links.proxies["eu"].bytes_forwarded - bytes_before) / backlog),
    }


def _write_steadily(clients: Sequence[_Timed], rate: float, seconds: float) -> int:
    started, written = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        while written < (time.monotonic() - started) * rate:
            client = clients[written % len(clients)]
            client.put(f"dataset/{client.region}/{written % 1_000}", Assign("size_gb", float(written)))
            written += 1
        time.sleep(0.005)
    return written


def _read_us(client: ReplicaClient) -> float:
    keys = client.keys("dataset/")[:1_000]
    started = time.perf_counter()
    for key in keys:
        client.read(key)
    return round((time.perf_counter() - started) / len(keys) * 1e6, 1)


def _received(folder: Path) -> int:
    with contextlib.suppress(Exception):
        rows = DeltaTable(str(folder / "warehouse" / "sync_regions")).to_pyarrow_table(columns=["received_seq"])
        return sum(value or 0 for value in rows["received_seq"].to_pylist())
    return 0


def _percentiles(ages_ms: Sequence[int], name: str) -> dict[str, int]:
    found = np.percentile(ages_ms, [50, 95, 99, 100]) if len(ages_ms) else [0, 0, 0, 0]
    return {f"{name}_{p}_ms": round(float(value)) for p, value in zip(("p50", "p95", "p99", "max"), found, strict=True)}


def _spread(counters: Sequence[Mapping[str, int]]) -> list[int]:
    return [int(age) for counts in counters for age, count in counts.items() for _ in range(count)]


def _load(bootstrap: str, keys: int, *options: str) -> dict[str, Any]:
    arguments = [argument for region in REGIONS for argument in ("--region", region)]
    load = _python(
        "thalweg.benchmarks.sync.sync_load",
        "--bootstrap",
        bootstrap,
        "--prefix",
        "load",
        "--keys",
        str(keys),
        *arguments,
        *options,
    )
    sent: dict[str, Any] = json.loads(load.communicate(timeout=300)[0])
    return sent


def _python(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "ignore", "-m", module, *arguments], stdout=subprocess.PIPE)


def _cpu_s(pid: int) -> float:
    total = 0.0
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def _job(folder: Path, bootstrap: str, prefix: str, settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the job as an operator would, until the end of the block."""
    folder.mkdir()
    options = [
        f"kafka.bootstrap_servers={bootstrap}",
        f"kafka.topic_prefix={prefix}",
        f"warehouse.path={folder / 'warehouse'}",
        f"spark.checkpoints={folder / 'checkpoints'}",
        *(item for item in settings.split(",") if item),
    ]
    arguments = [argument for item in options for argument in ("--set", item)]
    with (folder / "replicate.log").open("w") as log:
        job = subprocess.Popen([sys.executable, "-m", "thalweg.jobs.replicate", *arguments], stderr=log, stdout=log)
        try:
            started = folder / "checkpoints" / "replicate" / "offsets"
            _until(lambda: started.is_dir() or job.poll() is not None, 120)
            if job.poll() is not None:
                raise RuntimeError(
                    f"the job ended; its log ends with:\n{(folder / 'replicate.log').read_text()[-3000:]}"
                )
            yield job
        finally:
            job.terminate()
            try:
                job.wait(30)
            except subprocess.TimeoutExpired:
                job.kill()
                job.wait()


def _until(reached: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not reached within {timeout_s:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    print(json.dumps(sync(), indent=2))
