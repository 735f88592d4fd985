"""What one record passes on its way, file by file: drawn for readers, and followed by a test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One record's way through the files."""

    title: str
    sentence: str
    files: tuple[str, ...]
    """In the order in which they are entered."""
    again: Mapping[str, str] = field(default_factory=dict)
    """Those that are entered more than once, and why."""


WALKS: Final = (
    Walk(
        title="A request",
        sentence="Read, judged, taken into the world, planned, made rows and events, committed, told.",
        files=(
            "streams/placement/batch_offsets.py",
            "jobs/placement/fold.py",
            "streams/placement/inbox.py",
            "streams/placement/requests.py",
            "jobs/placement/judge.py",
            "streams/placement/task_specs.py",
            "scheduling/world/task_book.py",
            "scheduling/live/micro_batch.py",
            "scheduling/live/who_asks.py",
            "scheduling/live/live_problem.py",
            "scheduling/live/demand.py",
            "scheduling/solve/solve.py",
            "scheduling/solve/strategies/flow.py",
            "scheduling/live/node_placement.py",
            "scheduling/world/fleet.py",
            "jobs/placement/events.py",
            "streams/placement/assignments.py",
            "sync/delta/log_writer.py",
            "sync/delta/data_files.py",
            "sync/delta/commits.py",
            "jobs/placement/tables.py",
        ),
        again={
            "scheduling/world/task_book.py": "first as submitted, then as assigned",
        },
    ),
    Walk(
        title="A sample",
        sentence="Parsed, judged, recognised if it came before, written, committed; the newest of each node is kept.",
        files=(
            "streams/telemetry/record_rows.py",
            "streams/telemetry/intake.py",
            "streams/telemetry/parse.py",
            "streams/telemetry/rules.py",
            "streams/telemetry/history_rows.py",
            "sync/tables/recognise.py",
            "sync/delta/data_files.py",
            "sync/delta/commits.py",
            "sync/tables/latest_tables.py",
        ),
    ),
    Walk(
        title="A state change",
        sentence="Read, judged, merged with what is known, told to every region, then kept in the tables.",
        files=(
            "streams/contract/state_messages.py",
            "sync/centre/centre.py",
            "sync/centre/parking.py",
            "sync/centre/admission.py",
            "sync/centre/key_merge.py",
            "sync/tables/replicate_tables.py",
            "streams/replication/replica_log.py",
            "jobs/replication/publication.py",
            "sync/delta/keyed_table.py",
            "sync/delta/commits.py",
        ),
        again={
            "sync/centre/centre.py": "then that its entry has been told",
            "sync/centre/parking.py": "first for what was parked and is due",
            "sync/tables/replicate_tables.py": "first to count, then for each table",
            "sync/delta/keyed_table.py": "for each table",
            "sync/delta/commits.py": "for each table",
        },
    ),
)
