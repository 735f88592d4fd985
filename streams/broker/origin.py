"""What a query's checkpoint and tables were made with, against what is here now: compared before anything is written.

A checkpoint is offsets, and offsets mean something only in the topics they were read from; a table goes on from where
it was only together with the checkpoint that filled it. Each may be restored, moved, or made anew alone. So both
remember whose they are (`CheckpointOrigin`), and a query's start compares. Pure: who looks is `jobs.runtime.origin`
and the doctor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from thalweg.scheduling.counted import counted

Place = tuple[str, int]
"""A topic and a partition of it."""

EARLIEST: Final = -2
"""As Kafka and Spark write it: the oldest record that is kept."""

ALL_ANEW: Final = (
    "the checkpoint is set aside and the query reads every topic from the earliest record the broker holds; what the "
    "tables already have is recognised"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOrigin:
    """What a checkpoint was made with."""

    warehouse_id: str
    """Id of the query's first table, which Delta gives it when it is made."""
    cluster_id: str
    topic_ids: Mapping[str, str]
    table_version: int
    """The table's, when it was last looked at; never above what the checkpoint's batches have written."""
    begin_at: Mapping[Place, int] = field(default_factory=dict)
    """Where the checkpoint's first batch begins, if not at the earliest record of every partition."""
    known_until: Mapping[Place, int] = field(default_factory=dict)
    """Rows of earlier positions may be in the tables already, from a query before this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a checkpoint is."""

    query_id: str | None = None
    batch: int | None = None
    """The newest batch planned; None before the first."""
    planned: Mapping[Place, int] = field(default_factory=dict)
    """Where that batch ends."""
    done: Mapping[Place, int] = field(default_factory=dict)
    """Where the newest batch that is done ends: there a new query would go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What is here now; None where it cannot be seen."""

    warehouse_id: str | None = None
    table_version: int | None = None
    table_batch: int | None = None
    """The last batch of this query that the table holds."""
    cluster_id: str | None = None
    topic_ids: Mapping[str, str] | None = None
    starts: Mapping[Place, int] | None = None
    """First offset that each partition still holds."""
    ends: Mapping[Place, int] | None = None


class MismatchKind(StrEnum):
    """What differs."""

    OTHER_WAREHOUSE = "other_warehouse"
    OTHER_CLUSTER = "other_cluster"
    TABLE_OLDER = "table_older"
    TABLE_NEWER = "table_newer"
    TOPIC_ANEW = "topic_anew"
    RECORDS_EXPIRED = "records_expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One difference, in words: what was found, what happens when the query starts, what a person may do."""

    kind: MismatchKind
    found: str
    follows: str
    remedy: str
    topic: str | None = None
    partition: int = 0
    until: int = 0
    lost: int = 0
    """Records that nobody can read any more, of this partition up to this offset."""

    @property
    def sentence(self) -> str:
        """What was found and what will happen."""
        return f"{self.found}: {self.follows}"


def compare(origin: CheckpointOrigin | None, standing: Standing, present: Present) -> list[Mismatch]:
    """Name every difference, the widest first; nothing after one that makes all offsets meaningless.

    Args:
        origin: None for a checkpoint that says nothing of itself: then only its offsets can be judged.
        standing: how far the checkpoint is.
        present: what is here now.
    """
    if standing.batch is None:
        return []  # nothing was read yet, so there is nothing to contradict
    if origin is not None:
        whole = _whose(origin, present)
        if whole is not None:
            return [whole]
    found: list[Mismatch] = []
    if present.table_batch is not None and present.table_batch > standing.batch:
        found.append(
            Mismatch(
                kind=MismatchKind.TABLE_NEWER,
                found=f"the checkpoint is older than the table: it stands at batch {standing.batch}, the table holds "
                f"batch {present.table_batch} of the same query",
                follows="the checkpoint is set aside and the query goes on from where it stands, under a new id; what "
                "the table already has is recognised",
                remedy="Nothing, if the checkpoint was restored on purpose; else restore both to the same moment",
            )
        )
    anew = _topics_anew(origin, standing, present)
    found += anew
    made_anew = {mismatch.topic for mismatch in anew}
    found += _expired(standing, present, made_anew)
    return found


def _whose(origin: CheckpointOrigin, present: Present) -> Mismatch | None:
    if present.cluster_id is not None and present.cluster_id != origin.cluster_id:
        return Mismatch(
            kind=MismatchKind.OTHER_CLUSTER,
            found=f"the checkpoint was made with Kafka cluster {origin.cluster_id}, here is {present.cluster_id}",
            follows=ALL_ANEW,
            remedy="Nothing, if the broker was made anew; else name the right one: kafka.bootstrap_servers",
        )
    if present.warehouse_id is not None and present.warehouse_id != origin.warehouse_id:
        return Mismatch(
            kind=MismatchKind.OTHER_WAREHOUSE,
            found=f"the checkpoint was made with table {origin.warehouse_id}, here is {present.warehouse_id}",
            follows=ALL_ANEW,
            remedy="Nothing, if the warehouse was made anew; else name the right one: warehouse.path",
        )
    if present.table_version is not None and present.table_version < origin.table_version:
        return Mismatch(
            kind=MismatchKind.TABLE_OLDER,
            found=f"the table is older than the checkpoint: it is at version {present.table_version}, the checkpoint "
            f"has seen {origin.table_version}",
            follows=ALL_ANEW,
            remedy="Nothing, if the warehouse was restored on purpose; else restore both to the same moment",
        )
    return None


def _topics_anew(origin: CheckpointOrigin | None, standing: Standing, present: Present) -> list[Mismatch]:
    """Topics deleted and made anew under their names: by their ids, or because they end before where we stand."""
    found = []
    # A batch that was planned while the topic was away does not name it; the mark still does.
    for topic in sorted(
        {topic for topic, _ in standing.planned} | (origin.topic_ids.keys() if origin is not None else set())
    ):
        before = origin.topic_ids.get(topic) if origin is not None else None
        now = present.topic_ids.get(topic) if present.topic_ids is not None else None
        if before is not None and now is not None and before != now:
            seen = f"topic {topic} was deleted and made anew (id {before}, now {now})"
        elif behind := _ends_before(topic, standing, present):
            partition, end = behind
            at = standing.planned[topic, partition]
            seen = f"{topic}/{partition} ends at {end}, the checkpoint stands at {at}: the topic was made anew"
        else:
            continue
        found.append(
            Mismatch(
                kind=MismatchKind.TOPIC_ANEW,
                topic=topic,
                found=seen,
                follows="the checkpoint is set aside; this topic is read from its earliest record, the others go on",
                remedy="Nothing; what the old topic held and nobody had read is gone",
            )
        )
    return found


def _ends_before(topic: str, standing: Standing, present: Present) -> tuple[int, int] | None:
    ends = present.ends or {}
    for place, position in sorted(standing.planned.items()):
        if place[0] == topic and place in ends and ends[place] < position:
            return place[1], ends[place]
    return None


def _expired(standing: Standing, present: Present, made_anew: set[str | None]) -> list[Mismatch]:
    found = []
    for (topic, partition), position in sorted(standing.planned.items()):
        start = (present.starts or {}).get((topic, partition), position)
        if topic not in made_anew and start > position:
            found.append(lost_records(topic, partition, position, start))
    return found


def lost_records(topic: str, partition: int, position: int, start: int) -> Mismatch:
    """Say that records expired before they were read."""
    return Mismatch(
        kind=MismatchKind.RECORDS_EXPIRED,
        topic=topic,
        partition=partition,
        until=start,
        lost=start - position,
        found=f"{topic}/{partition}: up to {counted(start - position, 'record')}, offsets {position} to {start - 1}, "
        "expired or were deleted before they were read",
        follows=f"the query goes on at {start}",
        remedy="Whoever sent them must send them again; keep records longer than the jobs may be away (retention.ms)",
    )


def beginning(
    mismatches: Sequence[Mismatch], origin: CheckpointOrigin | None, standing: Standing, partitions: Mapping[str, int]
) -> Mapping[Place, int] | None:
    """Where a new checkpoint begins, for every partition there is; None to go on with the old one.

    Args:
        mismatches: what `compare` found.
        origin: what the old checkpoint was made with.
        standing: how far that is.
        partitions: number of them, by topic.
    """
    kinds = {mismatch.kind for mismatch in mismatches}
    if not kinds - {MismatchKind.RECORDS_EXPIRED}:
        return None
    before: Mapping[Place, int] = standing.done
    if standing.batch == 0 and not before and origin is not None:
        before = origin.begin_at
    if kinds & {MismatchKind.OTHER_CLUSTER, MismatchKind.OTHER_WAREHOUSE, MismatchKind.TABLE_OLDER}:
        before = {}
    anew = {mismatch.topic for mismatch in mismatches if mismatch.kind is MismatchKind.TOPIC_ANEW}
    return every_partition({place: at for place, at in before.items() if place[0] not in anew}, partitions)


def still_meant(origin: CheckpointOrigin, present: Present) -> Mapping[Place, int]:
    """Where a checkpoint without a batch begins: what was meant, but for topics that have been made anew since."""
    if present.cluster_id != origin.cluster_id:
        return {}
    same = {topic for topic, topic_id in (present.topic_ids or {}).items() if origin.topic_ids.get(topic) == topic_id}
    return {place: offset for place, offset in origin.begin_at.items() if place[0] in same}


def every_partition(meant: Mapping[Place, int], partitions: Mapping[str, int]) -> Mapping[Place, int]:
    """Say for each partition there is where to begin: Spark wants all of them named, and none that is not there."""
    return {
        (topic, number): meant.get((topic, number), EARLIEST)
        for topic, count in sorted(partitions.items())
        for number in range(count)
    }
