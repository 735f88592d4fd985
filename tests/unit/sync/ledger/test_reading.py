"""The ledger is read in its order, whatever its files have become."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from tests.ledger_rows import ledger, submitted
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.store import open_or_create
from thalweg.sync.ledger import reading
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.ledger.reading import LedgerVersion, Position, in_whole_batches, position_of_last


def places(rows: pa.Table) -> list[tuple[int, int, int]]:
    return list(zip(*(rows.column(name).to_pylist() for name in Position._fields), strict=True))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Three drivers of which the second begins with ids that the first has used."""
    for epoch, batches in ((1, range(5)), (2, range(3, 9)), (3, range(9, 12))):
        held = Ledger.claim(str(tmp_path))
        for batch in batches:
            rows = ledger(*(submitted(f"{epoch}-{batch}-{n}") for n in range(3)), batch_id=batch, driver_epoch=epoch)
            held.commit(rows, "q", batch, batch)
    return tmp_path


def at(folder: Path) -> LedgerVersion:
    return LedgerVersion(DeltaTable(str(folder / "decisions")))


@pytest.mark.parametrize("by_others", [False, True])
def test_all_rows_come_in_order_a_few_files_at_a_time(
    written: Path, by_others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_others:
        DeltaTable(str(written / "decisions")).optimize.compact()
    read: list[int] = []
    pieces = reading._pieces
    monkeypatch.setattr(reading, "_pieces", lambda rows: (read.append(rows.num_rows), pieces(rows))[1])
    rows = pa.concat_tables(at(written).all_rows())
    assert places(rows) == sorted(places(rows))
    assert rows.num_rows == at(written).count() == 42
    assert max(read) == (42 if by_others else 3), "never more at once than overlaps"


def test_rows_from_a_position_are_its_batch_and_all_after_it(written: Path) -> None:
    every = places(pa.concat_tables(at(written).all_rows()))
    for epoch, batch in ((1, 0), (1, 4), (2, 3), (3, 11)):
        found = places(at(written).rows_from(Position(epoch, batch, 1)))
        assert found == [place for place in every if place[:2] >= (epoch, batch)]
        assert places(at(written).rows_after(Position(epoch, batch, 1))) == [p for p in every if p[:2] > (epoch, batch)]


@pytest.mark.parametrize("least", [1, 2, 3, 4, 10, 100])
def test_pieces_end_where_batches_end(written: Path, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE_ROWS", least)
    rows = pa.concat_tables(at(written).all_rows())
    pieces = list(in_whole_batches(rows))
    assert [place for piece in pieces for place in places(piece)] == places(rows)
    assert all(position_of_last(piece).row == 2 for piece in pieces)
    assert all(piece.num_rows >= min(least, 3) for piece in pieces)
    assert all(piece.num_rows < least + 3 for piece in pieces), "of whole batches, three rows each, no more than needed"


def test_files_whose_rows_lie_between_each_other_are_read_together(tmp_path: Path) -> None:
    open_or_create(DECISIONS, str(tmp_path))
    batches = [ledger(submitted(f"t{batch}"), batch_id=batch) for batch in range(6)]
    for mixed in ((0, 3), (1, 2), (4, 5)):
        rows = pa.concat_tables([batches[batch] for batch in mixed])
        write_deltalake(str(tmp_path / "decisions"), rows, mode="append")
    assert [place[1] for place in places(pa.concat_tables(at(tmp_path).all_rows()))] == list(range(6))
