"""The centre's tables: read at start, written batch by batch, each write harmless when it is repeated.

`records` by MERGE on the key, older stamps never over newer ones; `conflicts` by appending rows whose ids are new;
`sync_gaps` by MERGE; `sync_regions` last and whole, because it says which updates are known as repetitions.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from sync.centre import Outcome
from sync.conflicts import Conflict, Write
from sync.delta_store import AnotherWriterError, open_or_create
from sync.entries import Heartbeat, PlainWrite, Update
from sync.gaps import Gap, GapStatus
from sync.key_merge import Recent
from sync.lives import Life, LifeImage, image
from sync.records import Record, canonical, decode_record, view
from sync.stamps import ZERO, Hlc
from sync.tables import CONFLICTS, RECORDS, SYNC_GAPS, SYNC_REFUSED, SYNC_REGIONS, TableContract

CENTRE_ROW: Final = "@centre"  # no region's name: they hold no @

_RECENT: Final = msgspec.json.Decoder(tuple[Write, ...])
_IMAGE: Final = msgspec.json.Decoder(LifeImage)
_ENCODER: Final = msgspec.json.Encoder()

_NOT_OLDER: Final = (
    "s.stamp_ms > t.stamp_ms OR (s.stamp_ms = t.stamp_ms AND (s.stamp_counter > t.stamp_counter OR "
    "(s.stamp_counter = t.stamp_counter AND s.stamp_region >= t.stamp_region)))"
)


class RegionCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has happened to a region's messages since the tables began."""

    refused: int = 0
    conflicts: int = 0
    warned: int = 0  # merged although their stamps were ahead of time
    last_refusal: str | None = None


class CentreRow(msgspec.Struct, frozen=True, kw_only=True):
    """The centre's own state, in the row `@centre`."""

    forgotten_through: Hlc = ZERO
    counts: dict[str, RegionCounts] = {}  # by region


class Loaded(msgspec.Struct, kw_only=True):
    """What the tables hold when the job starts."""

    records: dict[str, Record]
    recents: dict[str, Recent]
    regions: list[LifeImage]
    open_gaps: list[Gap]
    centre: CentreRow


class ReplicateTables:
    """The five tables of `jobs/replicate`, for its one writer."""

    def __init__(self, warehouse: str) -> None:
        self._tables = {
            contract.name: open_or_create(contract, warehouse)
            for contract in (RECORDS, CONFLICTS, SYNC_GAPS, SYNC_REGIONS, SYNC_REFUSED)
        }
        self._forgotten: set[str] = set()  # to be removed with the next merge
        # The first batch after a start may be one that had got half-way; until it is through, rows may be there.
        self._may_repeat = True

    # ---- reading -------------------------------------------------------------------------------------------------

    def load(self) -> Loaded:
        """Read what a centre starts from."""
        rows = self._tables[RECORDS.name].to_pyarrow_table(columns=["state", "recent"])
        records, recents = {}, {}
        for state, recent in zip(rows["state"].to_pylist(), rows["recent"].to_pylist(), strict=True):
            record = decode_record(state)
            records[record.key] = record
            if recent:
                recents[record.key] = _RECENT.decode(recent)
        regions, centre = [], CentreRow()
        for row in self._tables[SYNC_REGIONS.name].to_pyarrow_table(columns=["region", "image"]).to_pylist():
            if row["region"] == CENTRE_ROW:
                centre = msgspec.json.decode(row["image"], type=CentreRow)
            else:
                regions.append(_IMAGE.decode(row["image"]))
        gaps = self._tables[SYNC_GAPS.name].to_pyarrow_table()
        still_open = gaps.filter(pc.equal(gaps["status"], GapStatus.OPEN.value)).to_pylist()
        return Loaded(
            records=records,
            recents=recents,
            regions=regions,
            open_gaps=[
                Gap(
                    region=row["region"],
                    epoch=row["epoch"],
                    first_seq=row["first_seq"],
                    last_seq=row["last_seq"],
                    found_ms=_ms(row["found_at"]),
                    asked_ms=_ms(row["asked_at"]),
                )
                for row in still_open
            ],
            centre=centre,
        )

    # ---- writing, in this order ----------------------------------------------------------------------------------

    def add_conflicts(self, found: Sequence[Conflict], batch_id: int) -> int:
        """Append the conflicts that are not there yet; return how many that were."""
        known = self._known_conflicts(found) if self._may_repeat and found else set()
        new = [row for row in found if row.conflict_id not in known]
        if new:
            self._append(CONFLICTS, pa.Table.from_pylist([conflict_row(c, batch_id) for c in new], CONFLICTS.schema))
        return len(new)

    def _known_conflicts(self, found: Sequence[Conflict]) -> set[str]:
        """Return which of the rows the table holds."""
        ids = self._tables[CONFLICTS.name].to_pyarrow_table(columns=["conflict_id"])["conflict_id"]
        wanted = pa.array([row.conflict_id for row in found], ids.type)
        return set(ids.filter(pc.is_in(ids, wanted)).to_pylist())

    def merge_records(self, rows: pa.Table) -> None:
        """Merge record rows, and remove what was forgotten before."""
        gone = self._forgotten - set(rows["key"].to_pylist())
        source = rows.append_column("forget", pa.repeat(pa.scalar(False), rows.num_rows))
        if gone:
            empty = {name: pa.nulls(len(gone), RECORDS.schema.field(name).type) for name in RECORDS.schema.names}
            tombs = pa.table({**empty, "key": sorted(gone), "forget": [True] * len(gone)}, schema=source.schema)
            source = pa.concat_tables([source, tombs])
        if not source.num_rows:
            return
        columns = {name: f"s.{name}" for name in RECORDS.schema.names}
        table = self._tables[RECORDS.name]
        self._commit(
            RECORDS,
            lambda: (
                table.merge(
                    source,
                    "t.key = s.key",
                    source_alias="s",
                    target_alias="t",
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
                .when_matched_delete("s.forget")
                .when_matched_update(columns, f"NOT s.forget AND ({_NOT_OLDER})")
                .when_not_matched_insert(columns, "NOT s.forget")
                .execute()
            ),
        )
        self._forgotten -= gone

    def forget(self, keys: Iterable[str]) -> None:
        """Remove these records with the next merge; one that is found again after a crash is forgotten again."""
        self._forgotten.update(keys)

    def keep(self, keys: Iterable[str]) -> None:
        """Do not remove these after all: they were written anew."""
        self._forgotten.difference_update(keys)

    @property
    def forgetting(self) -> int:
        """How many records wait for their removal."""
        return len(self._forgotten)

    def merge_gaps(self, gaps: Sequence[Gap]) -> None:
        """Merge gap rows by region, epoch and first sequence."""
        if not gaps:
            return
        newest = {(gap.region, gap.epoch, gap.first_seq): gap for gap in gaps}
        rows = pa.Table.from_pylist([gap_row(gap) for gap in newest.values()], SYNC_GAPS.schema)
        table = self._tables[SYNC_GAPS.name]
        self._commit(
            SYNC_GAPS,
            lambda: (
                table.merge(
                    rows,
                    "t.region = s.region AND t.epoch = s.epoch AND t.first_seq = s.first_seq",
                    source_alias="s",
                    target_alias="t",
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .execute()
            ),
        )

    def add_refused(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append what was refused or parked."""
        if rows:
            self._append(SYNC_REFUSED, pa.Table.from_pylist(list(rows), SYNC_REFUSED.schema))

    def write_regions(self, lives: Iterable[Life], centre: CentreRow, position: int, now_ms: int) -> None:
        """Write every region's row and the centre's own: the last commit of a batch."""
        rows = [region_row(life, centre, position) for life in lives]
        rows.append(
            {
                "region": CENTRE_ROW,
                "position": position,
                "heard_at": _moment(now_ms),
                "image": _ENCODER.encode(centre).decode(),
            }
        )
        table = self._tables[SYNC_REGIONS.name]
        self._commit(
            SYNC_REGIONS,
            lambda: write_deltalake(
                table,
                pa.Table.from_pylist(rows, SYNC_REGIONS.schema),
                mode="overwrite",
                schema_mode="overwrite",  # a warehouse of an older version gains the new columns
                commit_properties=CommitProperties(max_commit_retries=0),
            ),
        )
        self._may_repeat = False

    def table(self, contract: TableContract) -> DeltaTable:
        """Return a table as last seen."""
        return self._tables[contract.name]

    def refresh(self) -> None:
        """See what was committed through Spark."""
        for table in self._tables.values():
            table.update_incremental()

    def _append(self, contract: TableContract, rows: pa.Table) -> None:
        table = self._tables[contract.name]
        self._commit(
            contract,
            lambda: write_deltalake(
                table, rows, mode="append", commit_properties=CommitProperties(max_commit_retries=0)
            ),
        )

    def _commit(self, contract: TableContract, write: Any) -> None:
        seen = self._tables[contract.name].version()
        try:
            write()
        except CommitFailedError as error:
            raise AnotherWriterError(contract.name, seen) from error


# ---- rows ----------------------------------------------------------------------------------------------------------


def record_rows(
    records: Mapping[str, Record], recents: Mapping[str, Recent], encoded: Mapping[str, bytes], now_ms: int
) -> pa.Table:
    """Make the rows of `records`.

    Args:
        records: by key.
        recents: their recent writes.
        encoded: their encodings, which the caller has made for publishing.
        now_ms: becomes `updated_at`.
    """
    keys = list(records)
    states = [records[key] for key in keys]
    ats = [state.at for state in states]
    shown = [view(state) for state in states]
    now = pa.scalar(_moment(now_ms), RECORDS.schema.field("updated_at").type)
    return pa.table(
        {
            "key": keys,
            "value": [None if value is None else canonical(value).decode() for value in shown],
            "deleted": [value is None for value in shown],
            "vector": [_ENCODER.encode(state.vector).decode() for state in states],
            "policy": [policies_of(state) for state in states],
            "stamp_ms": [at.ms for at in ats],
            "stamp_counter": [at.counter for at in ats],
            "stamp_region": [at.region for at in ats],
            "version": [state.version for state in states],
            "updated_at": pa.repeat(now, len(keys)),
            "state": [encoded[key].decode() for key in keys],
            "recent": [_ENCODER.encode(recents[key]).decode() if recents.get(key) else None for key in keys],
        },
        schema=RECORDS.schema,
    )


def policies_of(record: Record) -> str:
    """Return the policies that a record's fields have, comma-separated."""
    drawers = (
        ("last_writer", record.last),
        ("max", record.maxima),
        ("min", record.minima),
        ("counter", record.counters),
        ("add_wins_set", record.sets),
    )
    return ",".join(name for name, drawer in drawers if drawer)


def conflict_row(found: Conflict, batch_id: int) -> dict[str, Any]:
    """Make a row of `conflicts`."""
    row: dict[str, Any] = {
        "conflict_id": found.conflict_id,
        "key": found.key,
        "policy": found.policy,
        "resolution": found.resolution.value,
        "winner_region": found.right.at.region,
        "found_at": _moment(found.found_ms),
        "batch_id": batch_id,
    }
    for side, write in (("left", found.left), ("right", found.right)):
        row |= {
            f"{side}_region": write.at.region,
            f"{side}_epoch": int(write.actor.rpartition("@")[2]),
            f"{side}_seq": write.seq,
            f"{side}_ms": write.at.ms,
            f"{side}_counter": write.at.counter,
            f"{side}_value": None if write.deletes else canonical(write.value).decode(),
            f"{side}_vector": _ENCODER.encode(write.vector).decode(),
        }
    return row


def gap_row(gap: Gap) -> dict[str, Any]:
    """Make a row of `sync_gaps`."""
    return {
        "region": gap.region,
        "epoch": gap.epoch,
        "first_seq": gap.first_seq,
        "last_seq": gap.last_seq,
        "found_at": _moment(gap.found_ms),
        "asked_at": _moment(gap.asked_ms),
        "closed_at": None if gap.closed_ms is None else _moment(gap.closed_ms),
        "status": gap.status.value,
    }


def region_row(life: Life, centre: CentreRow, position: int) -> dict[str, Any]:
    """Make a row of `sync_regions`."""
    counts = centre.counts.get(life.region, RegionCounts())
    said = life.heartbeat if isinstance(life.heartbeat, Heartbeat) else None
    return {
        "region": life.region,
        "epoch": life.epoch,
        "member": life.member,
        "received_seq": life.received.contiguous,
        "written_seq": max(said.last_seq if said else 0, life.received.highest),
        "waiting": said.waiting if said else None,
        "parked": len(life.parked),
        "warned": counts.warned,
        "refused": counts.refused,
        "conflicts": counts.conflicts,
        "position": said.position if said else None,
        "lag": max(0, position - said.position) if said else None,
        "clock_offset_ms": life.offset_ms if said else None,
        "digest_agrees": said.agrees if said else None,
        "digest_position": said.compared_at if said else None,
        "last_refusal": counts.last_refusal,
        "heard_at": _moment(life.heard_ms) if life.heard_ms else None,
        "image": _ENCODER.encode(image(life)).decode(),
    }


def counted(centre: CentreRow, out: Outcome, refused: Iterable[tuple[str, str]]) -> CentreRow:
    """Add a batch's refusals, warnings and conflicts to the counts.

    Args:
        centre: the counts so far.
        out: the batch's outcome.
        refused: (region, reason) of messages that could not even be read.
    """
    said = [*refused, *((refusal.region, refusal.reason) for refusal in out.refused)]
    refusals = Counter(region for region, _ in said)
    warnings = Counter(message.stamp.region for message in out.warned)
    conflicts = Counter(region for row in out.conflicts for region in {row.left.at.region, row.right.at.region})
    newest = {region: reason[:500] for region, reason in said}
    counts = dict(centre.counts)
    for region in {*refusals, *warnings, *conflicts}:
        before = counts.get(region, RegionCounts())
        counts[region] = RegionCounts(
            refused=before.refused + refusals[region],
            conflicts=before.conflicts + conflicts[region],
            warned=before.warned + warnings[region],
            last_refusal=newest.get(region, before.last_refusal),
        )
    return CentreRow(forgotten_through=centre.forgotten_through, counts=counts)


def message_key(message: object) -> str | None:
    """Return the record key a message is about."""
    if isinstance(message, Update):
        return message.record.key
    return message.key if isinstance(message, PlainWrite) else None


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
