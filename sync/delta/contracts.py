"""The Delta tables, one contract each: schema, key, writer, retention and meaning.

One writer per table (a local file system is not safe for two). What is not a current-state table is append-only. Times
are UTC timestamps in microseconds; `*_ms` columns are integers of milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from thalweg.sync.delta import plain_arrow as pa

if TYPE_CHECKING:
    import pyarrow

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")

TEXT: Final = pa.large_string()
"""For texts as long as somebody else likes. An Arrow array of `string` ends at 2 GiB, which a table of all requests
passes; to Delta and Parquet both are strings."""

# Tables that are committed several times a second: a checkpoint every 100 commits bounds the JSON files a reader must
# replay, and an hour is enough because "as of" is answered from the rows' own times (design, section 3). Entries are
# kept longer than the files that they name, so that a writer which slept can still judge what others did.
BUSY_LOG: Final[Mapping[str, str]] = {
    "delta.checkpointInterval": "100",
    "delta.logRetentionDuration": "interval 6 hours",
    "delta.deletedFileRetentionDuration": "interval 1 hours",
}
HOT_LOG: Final[Mapping[str, str]] = {
    # Written anew ten times a second: an hour of what was replaced would be tens of thousands of files.
    "delta.checkpointInterval": "100",
    "delta.logRetentionDuration": "interval 1 hours",
    "delta.deletedFileRetentionDuration": "interval 10 minutes",
}
REPLACED_KEPT: Final = "thalweg.replacedFilesKeptHours"
"""Property of a table that is read as a stream: our sweeps keep files that were merged so long, beyond Delta's own
duration. That one would also keep a note of each in every checkpoint, which a day of a busy ledger is too many for."""

# Consumers read `decisions` as a stream of changes (docs/how-to/read-changes.md): one that was away for a night goes on
# where it was. The price is a day of log entries, and of the small files that were merged.
STREAMED_LOG: Final[Mapping[str, str]] = {
    **BUSY_LOG,
    "delta.logRetentionDuration": "interval 25 hours",
    REPLACED_KEPT: "25",
}
FORMER: Final[Mapping[str, frozenset[str | None]]] = {
    "delta.logRetentionDuration": frozenset({"interval 6 hours"}),
    REPLACED_KEPT: frozenset({None}),
}
"""What tables of an older version say of how long things are kept; what else stands there is somebody's wish."""
QUIET_LOG: Final[Mapping[str, str]] = {
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 7 days",
    "delta.deletedFileRetentionDuration": "interval 1 days",
}


@dataclass(frozen=True, kw_only=True)
class TableContract:
    """One Delta table."""

    name: str
    columns: pa.Schema
    """What reading needs; writing takes it as pyarrow's `schema`."""
    key: tuple[str, ...]
    """Columns that identify a row; for append-only tables, the event."""
    writer: str
    meaning: str
    append_only: bool = True
    partition_by: tuple[str, ...] = ()
    bounded: tuple[str, ...] = ()
    """Columns by whose bounds readers skip files: always filled, so that every file has them. Others have none."""
    ages_by: str | None = None
    """Partition or bounded column by which rows grow old."""
    retention_days: int | None = None
    """Rows older than this are removed by the table's writer; None keeps them."""
    configuration: Mapping[str, str] = field(default_factory=lambda: QUIET_LOG)

    def __post_init__(self) -> None:
        unknown = {*self.key, *self.partition_by, *self.bounded} - set(self.columns.names)
        if unknown:
            raise ValueError(
                f"table {self.name}: key, partition or bounded columns {sorted(unknown)} are not in its schema"
            )
        if (self.ages_by is None) != (self.retention_days is None):
            raise ValueError(f"table {self.name}: a retention needs the column by which rows grow old, and only then")

    @property
    def reach_minutes(self) -> int:
        """How far back every version can be read: while its log entry and its files are both kept."""
        return min(map(self.kept_minutes, ("logRetention", "deletedFileRetention")))

    @property
    def lag_minutes(self) -> int:
        """How long a stream may be away: while the entries since, and the files that they added, are both kept.

        Longer than the reach where replaced files are kept by their own age: a version may name a file that is older.
        """
        kept = int(self.configuration.get(REPLACED_KEPT, "0")) * 60
        return min(self.kept_minutes("logRetention"), max(self.kept_minutes("deletedFileRetention"), kept))

    def kept_minutes(self, what: str) -> int:
        """Say how long `logRetention` or `deletedFileRetention` is."""
        return _minutes(self.configuration[f"delta.{what}Duration"])

    @property
    def reach(self) -> str:
        """The reach of its versions in words."""
        return _in_words(self.reach_minutes)

    @property
    def lag(self) -> str:
        """How long a stream may be away, in words."""
        return _in_words(self.lag_minutes)

    @property
    def properties(self) -> Mapping[str, str]:
        """The table's properties in its log.

        The bounded columns are declared: a reader that expects bounds of a column and finds none in a file takes the
        file for one that holds no such row (pyarrow's datasets, by way of `deltalake`).
        """
        if self.bounded:
            return {**self.configuration, "delta.dataSkippingStatsColumns": ",".join(self.bounded)}
        return {**self.configuration, "delta.dataSkippingNumIndexedCols": "0"}

    @cached_property
    def schema(self) -> "pyarrow.Schema":
        """The columns as pyarrow has them."""
        import pyarrow  # late: reading does without it

        return pyarrow.schema(self.columns)


def _in_words(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    if rest:
        return f"{minutes} minutes"
    return f"{hours} hours" if hours > 1 else "an hour"


def _minutes(interval: str) -> int:
    """Read the intervals that are written here."""
    _, count, unit = interval.split()
    return int(count) * {"minutes": 1, "hours": 60, "days": 1_440}[unit]


def _schema(*columns: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    """Build a schema; a third item False marks a required column."""
    return pa.schema([pa.field(column[0], column[1], len(column) < 3 or column[2]) for column in columns])


_STAMP = (("stamp_ms", pa.int64()), ("stamp_counter", pa.int64()), ("stamp_region", pa.string()))
_POSITION = (("topic", pa.string()), ("topic_partition", pa.int32()), ("topic_offset", pa.int64()))

_NODE = (
    ("gpu_model", pa.string()),
    ("spot", pa.bool_()),
    ("gpus", pa.int32()),
    ("cpus", pa.float64()),
    ("memory_gb", pa.float64()),
    ("gpu_utilisation", pa.float64()),
    ("cpu_utilisation", pa.float64()),
    ("memory_used_gb", pa.float64()),
    ("state", pa.string()),
)
_LINK = (("rtt_ms", pa.float64()), ("gbps", pa.float64()), ("usd_per_gb", pa.float64()))
_PRICE = (("usd_per_gpu_hour", pa.float64()),)

TELEMETRY = TableContract(
    name="telemetry",
    columns=_schema(
        ("day", pa.date32()),
        ("region", pa.string()),
        ("kind", pa.string()),
        ("observed_at", TIMESTAMP),
        *_STAMP,
        ("version", pa.int64()),
        ("node_id", pa.string()),
        *_NODE,
        ("dst_region", pa.string()),
        *_LINK,
        *_PRICE,
        *_POSITION,
        ("sample_index", pa.int32()),
        ("received_at", TIMESTAMP),
    ),
    key=("topic", "topic_partition", "topic_offset", "sample_index"),
    writer="jobs/observe",
    meaning="Every accepted sample, in order of arrival; `received_at` is the broker's append time.",
    partition_by=("day",),
    bounded=("received_at", "observed_at", "stamp_ms", "region", "kind", "topic_partition", "topic_offset"),
    ages_by="day",
    retention_days=7,
    configuration=BUSY_LOG,
)
NODES = TableContract(
    name="nodes",
    columns=_schema(
        ("region", pa.string(), False), ("node_id", pa.string(), False), *_NODE, ("observed_at", TIMESTAMP), *_STAMP
    ),
    key=("region", "node_id"),
    writer="jobs/observe",
    meaning="Each node's latest sample by stamp.",
    append_only=False,
    configuration=BUSY_LOG,
)
LINKS = TableContract(
    name="links",
    columns=_schema(
        ("region", pa.string(), False), ("dst_region", pa.string(), False), *_LINK, ("observed_at", TIMESTAMP), *_STAMP
    ),
    key=("region", "dst_region"),
    writer="jobs/observe",
    meaning="Each directed link's latest probe by stamp, from `region` to `dst_region`.",
    append_only=False,
    configuration=BUSY_LOG,
)
PRICES = TableContract(
    name="prices",
    columns=_schema(
        ("region", pa.string(), False),
        ("gpu_model", pa.string(), False),
        ("spot", pa.bool_(), False),
        *_PRICE,
        ("observed_at", TIMESTAMP),
        *_STAMP,
    ),
    key=("region", "gpu_model", "spot"),
    writer="jobs/observe",
    meaning="Each pool's latest price by stamp, in US dollars per GPU-hour.",
    append_only=False,
    configuration=BUSY_LOG,
)

NODE_SHARES: Final = pa.list_(
    pa.struct(
        [
            ("node_id", pa.string()),
            ("workers", pa.int32()),
            ("gpus", pa.int32()),
            ("gpu_milli", pa.int32()),
            ("devices", pa.list_(pa.int32())),
        ]
    )
)
POOL_PRICES: Final = pa.list_(
    pa.struct(
        [
            pa.field("pool_id", pa.string()),
            pa.field("saves_usd", pa.float64()),
            pa.field("saves_usd_per_hour", pa.float64()),
            pa.field("usd_per_gpu_hour", pa.float64()),
        ]
    )
)

DECISIONS = TableContract(
    name="decisions",
    columns=_schema(
        ("query_id", pa.string(), False),
        ("batch_id", pa.int64(), False),
        ("row", pa.int32(), False),
        ("driver_epoch", pa.int64(), False),
        ("decided_at", TIMESTAMP, False),
        ("task_id", pa.string(), False),
        ("copy", pa.int32(), False),
        ("epoch", pa.int64(), False),
        ("transition", pa.string(), False),
        ("attempt", pa.int32()),
        ("event_id", pa.string()),
        ("region", pa.string()),
        ("pool_id", pa.string()),
        ("nodes", NODE_SHARES),
        ("plan_id", pa.string()),
        ("cost_usd_per_hour", pa.float64()),
        ("compute_usd", pa.float64()),
        ("egress_usd", pa.float64()),
        ("stall_usd", pa.float64()),
        ("latency_usd", pa.float64()),
        ("risk_usd", pa.float64()),
        ("move_usd", pa.float64()),
        ("reason", pa.string()),
        ("tenant", pa.string()),
        ("priority", pa.int32()),
        ("request", TEXT),
        ("content_hash", pa.string()),
        *_POSITION,
        ("topic_timestamp_ms", pa.int64()),
        ("name", pa.string()),
        ("cause", pa.string()),
        ("outcome", TEXT),
        ("ordered", TEXT),
        ("ends", pa.bool_()),
    ),
    key=("query_id", "batch_id", "driver_epoch", "row"),
    writer="jobs/place",
    meaning="The ledger: every task transition with its plan and reason, and every order (transition `ordered`, no "
    "task, what it changed as JSON in `ordered`). The truth of placement.",
    bounded=("driver_epoch", "batch_id"),
    configuration=STREAMED_LOG,
)
_TASK = (
    ("task_id", pa.string(), False),
    ("state", pa.string(), False),
    ("epoch", pa.int64()),
    ("attempt", pa.int32()),
    ("regions", pa.list_(pa.string())),
    ("tenant", pa.string()),
    ("priority", pa.int32()),
    ("reason", pa.string()),
    ("cost_usd_per_hour", pa.float64()),
    ("submitted_at", TIMESTAMP),
    ("changed_at", TIMESTAMP),
    ("request", TEXT),
    ("name", pa.string()),
    ("held", pa.bool_()),
    ("value_usd_per_hour", pa.float64()),
)
TASKS = TableContract(
    name="tasks",
    columns=_schema(*_TASK),
    key=("task_id",),
    writer="jobs/place",
    meaning="Each task's state now: a fold of `decisions`. Tasks that ended long ago are in `tasks_archive`. "
    "`value_usd_per_hour` is what an hour's delay of it costs: what its request says, or else what follows from its "
    "GPUs and priority, before a deadline makes it dearer; null for an array, whose elements have theirs.",
    append_only=False,
    configuration=BUSY_LOG,
)
TASKS_ARCHIVE = TableContract(
    name="tasks_archive",
    columns=_schema(*_TASK, ("archived_at", TIMESTAMP)),
    key=("task_id",),
    writer="jobs/place",
    meaning="Tasks that ended longer ago than `place.archive_after_s`, as `tasks` had them, and when they came here.",
    append_only=False,
    configuration=BUSY_LOG,
)
RESULTS = TableContract(
    name="results",
    columns=_schema(
        ("task_id", pa.string(), False),
        ("copy", pa.int32(), False),
        ("epoch", pa.int64(), False),
        ("state", pa.string(), False),
        ("ends", pa.bool_()),
        ("attempt", pa.int32()),
        ("region", pa.string()),
        ("cause", pa.string()),
        ("exit_code", pa.int64()),
        ("metrics", TEXT),
        ("result", TEXT),
        ("log", pa.string()),
        ("artefacts", TEXT),
        ("started_at", TIMESTAMP),
        ("ended_at", TIMESTAMP, False),
        ("reason", pa.string()),
        ("name", pa.string()),
        ("tenant", pa.string()),
    ),
    key=("task_id", "copy", "epoch", "state", "ended_at"),
    writer="jobs/place",
    meaning="How each run ended and what it left, and each task that was cancelled: a fold of `decisions`. `metrics`, "
    "`result` and `artefacts` are JSON; `ends` marks the row with which the task was over. Nothing is removed.",
    append_only=False,
    configuration=BUSY_LOG,
)
PLACEMENTS = TableContract(
    name="placements",
    columns=_schema(
        ("task_id", pa.string(), False),
        ("copy", pa.int32(), False),
        ("epoch", pa.int64(), False),
        ("state", pa.string(), False),
        ("region", pa.string()),
        ("pool_id", pa.string()),
        ("nodes", NODE_SHARES),
        ("plan_id", pa.string()),
        ("cost_usd_per_hour", pa.float64()),
        ("assigned_at", TIMESTAMP),
        ("changed_at", TIMESTAMP),
    ),
    key=("task_id", "copy"),
    writer="jobs/place",
    meaning="Where each placed copy of a task is now: a fold of `decisions`.",
    append_only=False,
    configuration=BUSY_LOG,
)
ACCOUNT = TableContract(
    name="account",
    columns=_schema(
        ("day", pa.date32(), False),
        ("kind", pa.string(), False),
        ("task_id", pa.string(), False),
        ("tenant", pa.string()),
        ("region", pa.string()),
        ("copy", pa.int32()),
        ("epoch", pa.int64()),
        ("began_at", TIMESTAMP),
        ("ended_at", TIMESTAMP, False),
        ("hours", pa.float64()),
        ("gpu_hours", pa.float64()),
        ("usd", pa.float64()),
        ("egress_gb", pa.float64()),
        ("egress_usd", pa.float64()),
        ("driver_epoch", pa.int64(), False),
        ("batch_id", pa.int64(), False),
        ("row", pa.int32(), False),
    ),
    key=("driver_epoch", "batch_id", "row", "kind", "copy", "day"),
    writer="jobs/maintain",
    meaning="What tasks have cost: a stretch of a UTC day in which a copy `held` its GPUs or a task `waited`, made "
    "when it ends by a fold of `decisions`. Prices and egress are those that were planned.",
    bounded=("ended_at",),
    ages_by="ended_at",
    retention_days=400,
)
PLANS = TableContract(
    name="plans",
    columns=_schema(
        ("plan_id", pa.string(), False),
        ("query_id", pa.string(), False),
        ("batch_id", pa.int64(), False),
        ("planned_at", TIMESTAMP),
        ("strategy", pa.string()),
        ("status", pa.string()),
        ("objective_usd", pa.float64()),
        ("bound_usd", pa.float64()),
        ("gap", pa.float64()),
        ("considered", pa.int32()),
        ("placed", pa.int32()),
        ("revoked", pa.int32()),
        ("waiting", pa.int32()),
        ("read_ms", pa.float64()),
        ("plan_ms", pa.float64()),
        ("commit_ms", pa.float64()),
        ("publish_ms", pa.float64()),
        ("pool_prices", POOL_PRICES),
        ("placed_usd_per_hour", pa.float64()),
        ("delay_usd_per_hour", pa.float64()),
        ("placed_usd", pa.float64()),
        ("least_usd", pa.float64()),
    ),
    key=("plan_id",),
    writer="jobs/place",
    meaning="Each plan: what it placed and costs, what still waits and what an hour's delay of that costs, each in US "
    "dollars (docs/explanation/policy.md). `revoked` counts copies that gave way to a task of higher priority. "
    "`pool_prices` are shadow prices: what one GPU more in a pool would save. `objective_usd`, `bound_usd` and `gap` "
    "are the solver's: they hold the prices of waiting, which nobody pays.",
    bounded=("batch_id", "planned_at"),
    ages_by="planned_at",
    retention_days=30,
)
RECORDS = TableContract(
    name="records",
    columns=_schema(
        ("key", pa.string(), False),
        ("value", pa.string()),
        ("deleted", pa.bool_()),
        ("vector", pa.string()),
        ("policy", pa.string()),
        *_STAMP,
        ("version", pa.int64()),
        ("updated_at", TIMESTAMP),
        ("state", pa.string()),
        ("recent", pa.string()),
    ),
    key=("key",),
    writer="jobs/replicate",
    meaning="Replicated records: the merged winner per key, tombstones included until collected. `value` is what an "
    "application reads; `state` is what is merged; `recent` are writes that some region may not have seen yet.",
    append_only=False,
    configuration=HOT_LOG,
)
CONFLICTS = TableContract(
    name="conflicts",
    columns=_schema(
        ("conflict_id", pa.string(), False),
        ("key", pa.string(), False),
        ("policy", pa.string()),
        ("resolution", pa.string()),
        ("winner_region", pa.string()),
        ("left_region", pa.string()),
        ("left_epoch", pa.int64()),
        ("left_seq", pa.int64()),
        ("left_ms", pa.int64()),
        ("left_counter", pa.int64()),
        ("left_value", pa.string()),
        ("left_vector", pa.string()),
        ("right_region", pa.string()),
        ("right_epoch", pa.int64()),
        ("right_seq", pa.int64()),
        ("right_ms", pa.int64()),
        ("right_counter", pa.int64()),
        ("right_value", pa.string()),
        ("right_vector", pa.string()),
        ("found_at", TIMESTAMP),
        ("batch_id", pa.int64()),
    ),
    key=("conflict_id",),
    writer="jobs/replicate",
    meaning="Every concurrent pair of writes, once, with both values, both vectors, the policy and the winner; `left` "
    "is the older write. A null value is a delete.",
    bounded=("found_at",),
    configuration=BUSY_LOG,
)
SYNC_GAPS = TableContract(
    name="sync_gaps",
    columns=_schema(
        ("region", pa.string(), False),
        ("epoch", pa.int64(), False),
        ("first_seq", pa.int64(), False),
        ("last_seq", pa.int64(), False),
        ("found_at", TIMESTAMP),
        ("asked_at", TIMESTAMP),
        ("closed_at", TIMESTAMP),
        ("status", pa.string()),
    ),
    key=("region", "epoch", "first_seq"),
    writer="jobs/replicate",
    meaning="Missing sequence ranges of a region: when found, asked for again, closed or lost with its store.",
    append_only=False,
)
SYNC_REGIONS = TableContract(
    name="sync_regions",
    columns=_schema(
        ("region", pa.string(), False),
        ("epoch", pa.int64()),
        ("member", pa.bool_()),
        ("received_seq", pa.int64()),
        ("written_seq", pa.int64()),
        ("waiting", pa.int64()),
        ("parked", pa.int64()),
        ("warned", pa.int64()),
        ("refused", pa.int64()),
        ("conflicts", pa.int64()),
        ("position", pa.int64()),
        ("lag", pa.int64()),
        ("clock_offset_ms", pa.int64()),
        ("digest_agrees", pa.bool_()),
        ("digest_position", pa.int64()),
        ("last_refusal", pa.string()),
        ("heard_at", TIMESTAMP),
        ("image", pa.string()),
    ),
    key=("region",),
    writer="jobs/replicate",
    meaning="Each region's side of replication: what has arrived, what it has applied, its clock, its digests. The row "
    "`@centre` holds the centre's own state.",
    append_only=False,
    configuration=HOT_LOG,
)
SYNC_REFUSED = TableContract(
    name="sync_refused",
    columns=_schema(
        ("at", TIMESTAMP, False),
        ("region", pa.string()),
        ("verdict", pa.string(), False),
        ("key", pa.string()),
        ("reason", pa.string(), False),
        *_POSITION,
        ("batch_id", pa.int64()),
    ),
    key=("at", "region", "verdict", "key"),
    writer="jobs/replicate",
    meaning="State messages that were refused (also in the dead-letter topic) or parked because their stamp is ahead, "
    "and foreign records on the replica topic.",
    bounded=("at",),
    ages_by="at",
    retention_days=30,
)
QUARANTINE = TableContract(
    name="quarantine",
    columns=_schema(
        ("quarantined_at", TIMESTAMP, False),
        ("flow", pa.string(), False),
        ("rule", pa.string(), False),
        ("reason", pa.string(), False),
        *_POSITION,
        ("sample_index", pa.int32()),
        ("raw", pa.binary()),
    ),
    key=("topic", "topic_partition", "topic_offset", "sample_index"),
    writer="jobs/observe",
    meaning="Telemetry that broke a rule, with the rule, the reason, the position and the bytes.",
    bounded=("quarantined_at", "topic_offset"),
    ages_by="quarantined_at",
    retention_days=30,
)
AUDIT = TableContract(
    name="audit",
    columns=_schema(
        ("at", TIMESTAMP, False),
        ("actor", pa.string(), False),
        ("action", pa.string(), False),
        ("subject", pa.string()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
    ),
    key=("at", "actor", "action", "subject"),
    writer="jobs/maintain",
    bounded=("at",),
    meaning="Who did what to the system itself: what was ordered, with before and after in `detail`, compactions, "
    "checks.",
)

LEARNING = TableContract(
    name="learning",
    columns=_schema(
        ("number", pa.int64(), False),
        ("at", TIMESTAMP, False),
        ("kind", pa.string(), False),
        ("model", pa.string(), False),
        ("participant", pa.string()),
        ("region", pa.string()),
        ("round", pa.int64()),
        ("version", pa.int64()),
        ("turn", pa.int64()),
        ("samples", pa.int64()),
        ("sha256", pa.string()),
        ("payload_bytes", pa.int64()),
        ("updates", pa.int64()),
        ("rule", pa.string()),
        ("reason", pa.string()),
        ("deadline_ms", pa.int64()),
        ("called", TEXT),
        ("epsilon", pa.float64()),
        ("public_key", pa.string()),
        ("metrics", pa.string()),
        ("run", pa.string()),
        *_POSITION,
    ),
    key=("number",),
    writer="jobs/federate",
    meaning="The ledger of learning: every fact of every run in its order, refusals with their rule and reason "
    "included. Runs, rounds and versions follow from it. `called`, `metrics` and `run` are JSON.",
    bounded=("number", "at"),
    configuration=BUSY_LOG,
)
ROUNDS = TableContract(
    name="rounds",
    columns=_schema(
        ("model", pa.string(), False),
        ("round", pa.int64(), False),
        ("state", pa.string(), False),
        ("opened_at", TIMESTAMP),
        ("closed_at", TIMESTAMP),
        ("called", pa.int64()),
        ("accepted", pa.int64()),
        ("refused", pa.int64()),
        ("samples", pa.int64()),
        ("uplink_bytes", pa.int64()),
        ("version", pa.int64()),
        ("sha256", pa.string()),
        ("loss", pa.float64()),
        ("epsilon", pa.float64()),
        ("reason", pa.string()),
    ),
    key=("model", "round"),
    writer="jobs/federate",
    meaning="Rounds of learning: open, closed with a version, or missed; a fold of `learning`. `loss` is the "
    "participants' own, by samples; `epsilon` what the run has spent by then.",
    append_only=False,
    configuration=BUSY_LOG,
)
PARTICIPANTS = TableContract(
    name="participants",
    columns=_schema(
        ("model", pa.string(), False),
        ("participant", pa.string(), False),
        ("region", pa.string()),
        ("state", pa.string(), False),
        ("accepted", pa.int64()),
        ("refused", pa.int64()),
        ("samples", pa.int64()),
        ("uplink_bytes", pa.int64()),
        ("last_round", pa.int64()),
        ("last_rule", pa.string()),
        ("heard_at", TIMESTAMP),
    ),
    key=("model", "participant"),
    writer="jobs/federate",
    meaning="Who takes part in learning, or did, and what became of what they sent; a fold of `learning`.",
    append_only=False,
    configuration=BUSY_LOG,
)
MODEL_VERSIONS = TableContract(
    name="model_versions",
    columns=_schema(
        ("model", pa.string(), False),
        ("version", pa.int64(), False),
        ("sha256", pa.string(), False),
        ("round", pa.int64()),
        ("made_at", TIMESTAMP),
        ("updates", pa.int64()),
        ("samples", pa.int64()),
        ("parameters", pa.int64()),
        ("epsilon", pa.float64()),
    ),
    key=("model", "version"),
    writer="jobs/federate",
    meaning="Versions of models, by the digest under which the store of payloads has them; a fold of `learning`.",
    append_only=False,
    configuration=BUSY_LOG,
)
ROLLOUTS = TableContract(
    name="rollouts",
    columns=_schema(
        ("number", pa.int64(), False),
        ("at", TIMESTAMP, False),
        ("kind", pa.string(), False),
        ("model", pa.string(), False),
        ("rollout", pa.int64(), False),
        ("version", pa.string()),
        ("stage", pa.int64()),
        ("wave", pa.float64()),
        ("cut", pa.int64()),
        ("edges", pa.int64()),
        ("heard", pa.int64()),
        ("edge", pa.string()),
        ("rule", pa.string()),
        ("reason", pa.string()),
        ("outcomes", pa.string()),
        ("evidence", pa.string()),
        ("wish", pa.string()),
        ("plan", pa.string()),
    ),
    key=("number",),
    writer="jobs/roll_out",
    meaning="The ledger of roll-outs of models: every fact in its order, with its reason; refused reports and wishes "
    "included. `outcomes` (of the new version and bad, of the last good one and bad), `evidence` (logarithms of "
    "e-values, base 10) and `plan` are JSON.",
    bounded=("number", "at"),
    configuration=BUSY_LOG,
)

CONTRACTS: Final = (
    TELEMETRY,
    NODES,
    LINKS,
    PRICES,
    RECORDS,
    CONFLICTS,
    SYNC_GAPS,
    SYNC_REGIONS,
    SYNC_REFUSED,
    DECISIONS,
    TASKS,
    TASKS_ARCHIVE,
    RESULTS,
    PLACEMENTS,
    ACCOUNT,
    PLANS,
    QUARANTINE,
    LEARNING,
    ROUNDS,
    PARTICIPANTS,
    MODEL_VERSIONS,
    ROLLOUTS,
    AUDIT,
)
