"""The Kafka topics: names, keys, partitions and retention, one contract per topic.

A topic with one copy per region is named `<prefix>.<topic>.<region>`. A region's name may hold characters that Kafka
refuses, so it is written into the topic name with `region_suffix` (`aws:us-east-1` becomes `aws.us-east-1`) and read
back with `region_of`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from thalweg.scheduling.ids import RegionId

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

# Kafka allows [a-zA-Z0-9._-] and 249 characters. A cloud's prefix is common, so ":" becomes "."; every other character,
# "." and "_" included, is escaped as "_" and two hex digits, so that distinct regions never share a topic.
_PLAIN = re.compile(r"[a-zA-Z0-9-]")
_ESCAPED = re.compile(r"_([0-9a-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicContract:
    """One topic (or one family of topics, where `per_region`)."""

    topic: str
    """Name without prefix and region."""
    key: str
    """What the record key holds."""
    writer: str
    meaning: str
    per_region: bool = False
    partitions: int = 1
    compacted: bool = False
    retention_ms: int = 7 * DAY_MS
    stamped_by_broker: bool = False
    """Records carry the broker's time of arrival instead of the producer's time of sending."""
    max_message_bytes: int = 1_048_576
    """Larger records are refused by the broker; the client says so before sending."""

    def __hash__(self) -> int:
        """By name alone: topics' names are looked up for every record."""
        return hash(self.topic)

    def config(self) -> Mapping[str, str]:
        """Topic configuration for the broker."""
        base = {"max.message.bytes": str(self.max_message_bytes)}
        if self.stamped_by_broker:
            base["message.timestamp.type"] = "LogAppendTime"
        if self.compacted:
            # Tombstones stay a day, so that a region cut off for less learns of every delete from the topic alone.
            return base | {"cleanup.policy": "compact", "delete.retention.ms": str(DAY_MS)}
        return base | {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}


REQUESTS = TopicContract(
    topic="requests",
    key="task_id",
    writer="applications",
    meaning="Submit, update or cancel a task.",
    partitions=2,
)
CONTROL = TopicContract(
    topic="control",
    key="what the order is about: drain/REGION, drain/REGION/NODE, hold/TENANT, tenant/TENANT, "
    "price/REGION/MODEL/on-demand or spot, move/TASK",
    writer="operators",
    meaning="Orders: drain and undrain, hold and release a tenant, limits of tenants, prices of ours, moves. One "
    "partition: their order is the order in which they are obeyed.",
    compacted=True,
)
TELEMETRY = TopicContract(
    topic="telemetry",
    key="node_id, or the link's or price's own id",
    writer="regional agents",
    meaning="Node samples, link probes and price changes; one record may carry many samples.",
    per_region=True,
    retention_ms=DAY_MS,
    stamped_by_broker=True,
)
STATUS = TopicContract(
    topic="status",
    key="task_id, or the region for heartbeats and inventories",
    writer="regional agents",
    meaning="Region heartbeats and inventories; a task accepted, running, in progress, succeeded, failed or evicted.",
    per_region=True,
    # An inventory is one message: 8 MiB list 200,000 tasks with ids of 36 characters.
    max_message_bytes=8 * 1_048_576,
)
STATE = TopicContract(
    topic="state",
    key="the record's key",
    writer="applications in a region",
    meaning="Changes of replicated records.",
    per_region=True,
    # Far above what a record may have: what is too large is refused by the job, where everybody sees it.
    max_message_bytes=8 * 1_048_576,
)
REPLICA = TopicContract(
    topic="replica",
    key="the record's key",
    writer="jobs/replicate",
    meaning="Merged winners, read by every region. One partition: its order is the order of what regions learn.",
    compacted=True,
    # Two concurrent states below the limit of a write may be above it once merged.
    max_message_bytes=4 * 1_048_576,
)
ASSIGNMENTS = TopicContract(
    topic="assignments",
    key="task_id",
    writer="jobs/place",
    meaning="Assign and revoke events for one region; a move is a revoke and an assign with the next epoch.",
    per_region=True,
    # A task of the most workers, each on a node with the longest name (thalweg.streams.placement.event_size).
    max_message_bytes=20 * 1_048_576,
)
ANSWERS = TopicContract(
    topic="answers",
    key="none",
    writer="jobs/place",
    meaning="What became of requests: taken, known already, or refused; many in a record, each told at most once.",
    retention_ms=DAY_MS,
)
RESULTS = TopicContract(
    topic="results",
    key="task_id",
    writer="jobs/place",
    meaning="One event for each task that succeeded, failed for good or was cancelled, and for each refused request "
    "of a task that nobody knows.",
    # A result, figures and addresses of 16 KiB each, and the longest words.
    max_message_bytes=262_144,
)
UPDATES = TopicContract(
    topic="updates",
    key="model name",
    writer="federated clients",
    meaning="What a region's participants say: joined, left, updates; of `@centre`, runs started and stopped.",
    per_region=True,
    retention_ms=DAY_MS,
    # Who was late is judged by when it arrived, which is then part of the record.
    stamped_by_broker=True,
)
MODELS = TopicContract(
    topic="models",
    key="model name",
    writer="jobs/federate",
    meaning="Each run as it is: its newest version, and the round that is open.",
    compacted=True,
    # 20,000 participants with the longest names, who are called by one message.
    max_message_bytes=8 * 1_048_576,
)
SERVERS = TopicContract(
    topic="servers",
    key="model name, a slash, the server's name",
    writer="model servers",
    meaning="Each model server as it is: where it answers, what it serves, what it has done; a null value says that it "
    "has gone.",
    compacted=True,
)
CALLS = TopicContract(
    topic="calls",
    key="participant",
    writer="Flower's server apps",
    meaning="Flower's messages to participants (`thalweg.flower`), and the end of a run of them.",
    # Longer than any call may be waited for, so whoever reads from the beginning finds the calls that are open.
    retention_ms=2 * DAY_MS,
)
REPLIES = TopicContract(
    topic="replies",
    key="participant",
    writer="Flower's client apps",
    meaning="What a region's participants say to Flower's server apps: joined, left, replies to calls.",
    per_region=True,
    # A day longer than calls: one that is still there and was answered has its reply.
    retention_ms=3 * DAY_MS,
    # Which reply was late is judged by when it arrived, which is then part of the record.
    stamped_by_broker=True,
)
DEADLETTER = TopicContract(
    topic="deadletter",
    key="the refused record's key",
    writer="every job",
    meaning="What was refused: raw bytes as value; reason, topic, partition and offset as headers.",
    retention_ms=30 * DAY_MS,
    # A refused record may be as large as any accepted one, and its headers come on top.
    max_message_bytes=21 * 1_048_576,
)

CONTRACTS: Final = (
    REQUESTS,
    CONTROL,
    TELEMETRY,
    STATUS,
    STATE,
    REPLICA,
    ASSIGNMENTS,
    ANSWERS,
    RESULTS,
    UPDATES,
    MODELS,
    SERVERS,
    CALLS,
    REPLIES,
    DEADLETTER,
)

LARGEST_MESSAGE_BYTES: Final = max(contract.max_message_bytes for contract in CONTRACTS)


def _escape(character: str) -> str:
    if character == ":":
        return "."
    if _PLAIN.match(character):
        return character
    return "".join(f"_{byte:02x}" for byte in character.encode())


def region_suffix(region: str) -> str:
    """Write a region's name with characters that Kafka allows; distinct regions stay distinct.

    Raises:
        ValueError: the name is empty or longer than 180 bytes when escaped.
    """
    suffix = "".join(_escape(character) for character in region)
    if not suffix or len(suffix) > 180:
        raise ValueError(f"region {region!r}: allowed are 1 to 180 bytes once escaped, seen {len(suffix)}")
    return suffix


def region_of(suffix: str) -> str:
    """Read a region's name back from a topic's suffix; the inverse of `region_suffix`."""
    raw = _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), suffix.replace(".", ":"))
    return raw.encode("latin-1").decode("utf-8", errors="replace")


@lru_cache(maxsize=4_096)  # asked for every record; contracts and regions are few
def topic_name(contract: TopicContract, prefix: str, region: str | None = None) -> str:
    """Full name of a topic.

    Raises:
        ValueError: a region was given for a topic that has none, or the reverse.
    """
    if contract.per_region != (region is not None):
        wanted = "one region" if contract.per_region else "no region"
        raise ValueError(f"topic {contract.topic!r} takes {wanted}, seen {region!r}")
    return f"{prefix}.{contract.topic}" + (f".{region_suffix(region)}" if region is not None else "")


def topic_pattern(contract: TopicContract, prefix: str) -> str:
    """Regular expression (Java and Python) that matches every region's copy of a per-region topic."""
    return re.escape(f"{prefix}.{contract.topic}").replace("\\-", "-") + r"\.[a-zA-Z0-9._-]+"


def contract_of(name: str, prefix: str) -> TopicContract | None:
    """Contract of a topic by its full name; None for a topic that is not ours."""
    for contract in CONTRACTS:
        own = f"{prefix}.{contract.topic}"
        if name.startswith(f"{own}.") if contract.per_region else name == own:
            return contract
    return None


@lru_cache(maxsize=4_096)
def region_of_topic(name: str, contract: TopicContract, prefix: str) -> RegionId:
    """Region of a per-region topic's full name."""
    return RegionId(region_of(name.removeprefix(f"{prefix}.{contract.topic}.")))
