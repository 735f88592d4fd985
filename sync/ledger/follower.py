"""A world that follows the ledger's rows and does nothing else: what a start, a snapshot and a standby begin with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import pyarrow as pa

from thalweg.scheduling.world.facts import TenantLimits, WorldFacts
from thalweg.scheduling.world.image import image_of, world_of
from thalweg.scheduling.world.making import follow_all, world_from
from thalweg.scheduling.world.world import World
from thalweg.sync.ledger.ledger import SpecOf, from_rows
from thalweg.sync.ledger.reading import PIECE_ROWS, LedgerVersion, Position, is_of_batch, position_of_last
from thalweg.sync.ledger.snapshot import Mark, Snapshot, SnapshotError, digest_of_batch, read_snapshot, rows_since
from thalweg.sync.ledger.taken import Reach

Progress = Callable[[int], None]
"""Told how many rows were followed so far."""


@dataclass(slots=True, kw_only=True)
class Follower:
    """See the module's words. Pieces of the ledger are followed in its order, each once."""

    world: World
    spec_of: SpecOf
    now_ms: int
    """The moment at which regions are expected from."""
    ledger_id: str = ""
    """Of the ledger that is followed."""
    rows: int = 0
    """Rows followed."""
    position: Position | None = None
    """Of the last of them."""
    reach: Reach = field(default_factory=Reach)
    unused: str | None = None
    """Why no snapshot was used; None where one was."""
    read: int = 0
    """Rows that were read, beside those for which the snapshot stood."""
    last_batch: pa.Table | None = None
    """Rows of the last batch; None of none."""

    @classmethod
    def of(
        cls,
        warehouse: str,
        ledger: LedgerVersion,
        spec_of: SpecOf,
        now_ms: int,
        *,
        tenants: Mapping[str, TenantLimits] | None = None,
        progress: Progress = lambda _: None,
    ) -> Self:
        """Follow a ledger up to a version: from its snapshot on where there is one that can be used, else all of it.

        Args:
            warehouse: where the snapshot is looked for.
            ledger: the version.
            spec_of: reads a stored request.
            now_ms: the moment at which regions are expected from.
            tenants: who may hold only so much.
            progress: told how many rows were read so far.
        """
        try:
            snapshot = read_snapshot(warehouse)
            last_batch, tail = rows_since(snapshot.mark, ledger)
        except SnapshotError as error:
            world = world_from(WorldFacts(), (), now_ms, tenants=tenants)
            follower = cls(world=world, spec_of=spec_of, now_ms=now_ms, unused=str(error))
            pieces = ledger.all_rows()
        else:
            follower = cls._of_snapshot(snapshot, last_batch, spec_of, now_ms, tenants)
            pieces = (tail.slice(start, PIECE_ROWS) for start in range(0, tail.num_rows, PIECE_ROWS))
        follower.ledger_id = ledger.ledger_id
        for piece in pieces:
            follower.follow(piece)
            progress(follower.read)
        return follower

    @classmethod
    def _of_snapshot(
        cls,
        snapshot: Snapshot,
        last_batch: pa.Table,
        spec_of: SpecOf,
        now_ms: int,
        tenants: Mapping[str, TenantLimits] | None,
    ) -> Self:
        mark = snapshot.mark
        reach = Reach({(topic, at): offset for topic, places in mark.reach.items() for at, offset in places.items()})
        return cls(
            world=world_of(snapshot.image, spec_of, now_ms, tenants=tenants),
            spec_of=spec_of,
            now_ms=now_ms,
            rows=mark.rows,
            position=mark.position,
            reach=reach,
            last_batch=last_batch,
        )

    def follow(self, rows: pa.Table) -> None:
        """Follow the next rows of the ledger."""
        if not rows.num_rows:
            return
        follow_all(self.world, from_rows(rows, self.spec_of), self.now_ms)
        self.reach.note(rows)
        self.rows += rows.num_rows
        self.read += rows.num_rows
        before, self.position = self.position, position_of_last(rows)
        last = rows.filter(is_of_batch(rows, self.position))
        if before is not None and before[:2] == self.position[:2] and self.last_batch is not None:
            last = pa.concat_tables([self.last_batch, last])
        self.last_batch = last

    def catch_up(self, ledger: LedgerVersion) -> bool:
        """Follow what was added since; False where this is not the ledger that was followed."""
        if ledger.ledger_id != self.ledger_id:
            return False
        added = ledger.all_rows() if self.position is None else [ledger.rows_after(self.position)]
        for rows in added:
            self.follow(rows)
        return self.rows == ledger.count()

    def snapshot(self, ledger: LedgerVersion) -> Snapshot | None:
        """Take a snapshot of what was followed, which is all that a version of the ledger has; None of no rows."""
        if self.position is None or self.last_batch is None:
            return None
        reach: dict[str, dict[int, int]] = {}
        for (topic, partition), offset in self.reach.items():
            reach.setdefault(topic, {})[partition] = offset
        mark = Mark(
            ledger_id=ledger.ledger_id,
            version=ledger.version,
            rows=self.rows,
            position=self.position,
            last_batch=digest_of_batch(self.last_batch),
            reach=reach,
        )
        return Snapshot(mark=mark, image=image_of(self.world))
