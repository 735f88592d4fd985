"""The centre's tables: read at start, written batch by batch, each write harmless when it is repeated.

`records`, `sync_gaps` and `sync_regions` have one row for each key; `conflicts` gains rows whose ids are new.
`sync_regions` comes last, because it says which updates are known as repetitions. What is written is the centre's
merge, which began with what the tables held, so an older stamp never replaces a newer one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Transaction

from thalweg.sync.centre.centre import MergeOutcome
from thalweg.sync.centre.key_merge import Recent
from thalweg.sync.centre.known_regions import KnownRegion, KnownRegionImage, image
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import CONFLICTS, RECORDS, SYNC_GAPS, SYNC_REFUSED, SYNC_REGIONS, TableContract
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.protocol.conflicts import Conflict, Write, kept
from thalweg.sync.protocol.entries import Heartbeat, PlainWrite, Update
from thalweg.sync.protocol.gaps import Gap, GapStatus
from thalweg.sync.protocol.records import Record, canonical, decode_record, view
from thalweg.sync.tables.centre_row import CENTRE_ROW, CentreRow, RegionCounts

RECORDS_IN_A_FILE: Final = 1_024
"""Few, because the records of a micro-batch lie anywhere, and each file that holds one of them is written anew."""

_RECENT: Final = msgspec.json.Decoder(tuple[Write, ...])
_IMAGE: Final = msgspec.json.Decoder(KnownRegionImage)
_ENCODER: Final = msgspec.json.Encoder()


class Loaded(msgspec.Struct, kw_only=True):
    """What the tables hold when the job starts."""

    records: dict[str, Record]
    recents: dict[str, Recent]
    regions: list[KnownRegionImage]
    open_gaps: list[Gap]
    centre: CentreRow


class ReplicateTables:
    """The five tables of `jobs/replicate`, for its one writer."""

    def __init__(self, warehouse: str) -> None:
        self._warehouse = warehouse
        self._records = KeyedTable.resumed(RECORDS, warehouse, RECORDS_IN_A_FILE)
        self._gaps = KeyedTable.resumed(SYNC_GAPS, warehouse)
        self._regions = KeyedTable.resumed(SYNC_REGIONS, warehouse)
        self.conflicts = Appender(CONFLICTS, warehouse)
        self.refused = Appender(SYNC_REFUSED, warehouse)
        self._forgotten: set[str] = set()  # to be removed with the next write
        # The first batch after a start may be one that had got half-way; until it is through, rows may be there.
        self._may_repeat = True

    # ---- reading -------------------------------------------------------------------------------------------------

    def load(self) -> Loaded:
        """Read what a centre starts from."""
        rows = self._records.rows()
        records, recents = {}, {}
        for state, recent in zip(rows["state"].to_pylist(), rows["recent"].to_pylist(), strict=True):
            record = decode_record(state)
            records[record.key] = record
            if recent:
                recents[record.key] = tuple(kept(write) for write in _RECENT.decode(recent))
        regions, centre = [], CentreRow()
        for row in self._regions.rows().select(["region", "image"]).to_pylist():
            if row["region"] == CENTRE_ROW:
                centre = msgspec.json.decode(row["image"], type=CentreRow)
            else:
                regions.append(_IMAGE.decode(row["image"]))
        gaps = self._gaps.rows()
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

    def add_conflicts(self, found: Sequence[Conflict], batch_id: int, now_ms: int) -> int:
        """Append the conflicts that are not there yet; return how many that were."""
        known = self._known_conflicts(found) if self._may_repeat and found else set()
        new = [conflict_row(row, batch_id) for row in found if row.conflict_id not in known]
        _append(self.conflicts, new, now_ms)
        return len(new)

    def look_for_conflicts(self) -> bool:
        """After an append whose outcome is unknown: the next one compares ids with what the table holds."""
        self.conflicts.refresh()
        self._may_repeat = True
        return False

    def _known_conflicts(self, found: Sequence[Conflict]) -> set[str]:
        """Return which of the rows the table holds."""
        ids = DeltaTable(self.conflicts.uri).to_pyarrow_table(columns=["conflict_id"])["conflict_id"]
        wanted = pa.array([row.conflict_id for row in found], ids.type)
        return set(ids.filter(pc.is_in(ids, wanted)).to_pylist())

    def write_records(self, rows: pa.Table, now_ms: int) -> None:
        """Write record rows, and remove what was forgotten before."""
        gone = self._forgotten - set(rows["key"].to_pylist())
        self._records.write(rows, pa.table({"key": pa.array(sorted(gone), pa.string())}), _never(rows), now_ms)
        self._forgotten -= gone

    def records_written_elsewhere(self) -> None:
        """See what Spark has written to `records`."""
        self._records = KeyedTable.resumed(RECORDS, self._warehouse, RECORDS_IN_A_FILE)

    def forget(self, keys: Iterable[str]) -> None:
        """Remove these records with the next write; one that is found again after a crash is forgotten again."""
        self._forgotten.update(keys)

    def keep(self, keys: Iterable[str]) -> None:
        """Do not remove these after all: they were written anew."""
        self._forgotten.difference_update(keys)

    @property
    def forgetting(self) -> int:
        """How many records wait for their removal."""
        return len(self._forgotten)

    def write_gaps(self, gaps: Sequence[Gap], now_ms: int) -> None:
        """Write gap rows by region, epoch and first sequence; of one gap the last row counts."""
        newest = {(gap.region, gap.epoch, gap.first_seq): gap_row(gap) for gap in gaps}
        _put(self._gaps, list(newest.values()), SYNC_GAPS, now_ms)

    def add_refused(self, rows: Sequence[Mapping[str, Any]], batch: Transaction, now_ms: int) -> None:
        """Append what was refused or parked; nothing if an earlier run of the batch has done it."""
        if not self.refused.has_committed(batch):
            _append(self.refused, rows, now_ms, batch)

    def has_refused(self, batch: Transaction) -> bool:
        """After an append whose outcome is unknown: look whether the table has the batch."""
        self.refused.refresh()
        return self.refused.has_committed(batch)

    def write_regions(self, lives: Iterable[KnownRegion], centre: CentreRow, position: int, now_ms: int) -> None:
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
        _put(self._regions, rows, SYNC_REGIONS, now_ms)
        self._may_repeat = False

    @property
    def keyed(self) -> tuple[KeyedTable, ...]:
        """The tables with one row for each key."""
        return self._records, self._gaps, self._regions


def _put(table: KeyedTable, rows: Sequence[Mapping[str, Any]], contract: TableContract, now_ms: int) -> None:
    found = pa.Table.from_pylist(list(rows), schema=contract.schema)
    table.write(found, contract.schema.empty_table(), _never(found), now_ms)


def _append(table: Appender, rows: Sequence[Mapping[str, Any]], now_ms: int, *transactions: Transaction) -> None:
    if rows:
        files = table.write(pa.Table.from_pylist(list(rows), schema=table.contract.schema), now_ms)
        table.commit(files, *transactions)


def _never(rows: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar(False), rows.num_rows)


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
            "recent": [_texts(recents.get(key, ())) for key in keys],
        },
        schema=RECORDS.schema,
    )


def _texts(recent: Recent) -> str | None:
    return f"[{b','.join([write.encoded for write in recent]).decode()}]" if recent else None


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


def region_row(life: KnownRegion, centre: CentreRow, position: int) -> dict[str, Any]:
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


def counted(centre: CentreRow, out: MergeOutcome, refused: Iterable[tuple[str, str]]) -> CentreRow:
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
    return msgspec.structs.replace(centre, counts=counts)


def message_key(message: object) -> str | None:
    """Return the record key a message is about."""
    if isinstance(message, Update):
        return message.record.key
    return message.key if isinstance(message, PlainWrite) else None


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
