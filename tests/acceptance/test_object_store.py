"""A table on S3: of two writers one loses, and a commit whose answer was lost is one's own."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Transaction

from tests.acceptance.object_store import LossyRelay, object_store
from tests.table_rows import random_rows
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import PLANS
from thalweg.sync.delta.store import AnotherWriterError

pytestmark = pytest.mark.acceptance

ROUNDS = 10


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, LossyRelay]]:
    with object_store(monkeypatch) as found:
        yield found


def row(plan_id: str) -> pa.Table:
    rows = random_rows(PLANS, 1, random.Random(0))
    place = rows.column_names.index("plan_id")
    return rows.set_column(place, rows.field(place), pa.array([plan_id], rows.field(place).type))


def test_of_two_that_commit_the_same_version_at_the_same_time_one_loses(store: tuple[str, LossyRelay]) -> None:
    warehouse, _ = store
    for number in range(ROUNDS):
        ready = threading.Barrier(2)

        def wins(writer: Appender, name: str, ready: threading.Barrier = ready) -> bool:
            files = writer.write(row(name), 0)
            ready.wait(60)
            try:
                writer.commit(files, Transaction(name, 1))
            except AnotherWriterError:
                return False
            return True

        names = [f"{number}-{n}" for n in range(2)]
        with ThreadPoolExecutor(max_workers=2) as both:
            won = list(both.map(wins, [Appender(PLANS, warehouse) for _ in names], names))
        assert sorted(won) == [False, True]
        kept = DeltaTable(f"{warehouse}/{PLANS.name}").to_pyarrow_table(columns=["plan_id"])["plan_id"].to_pylist()
        assert len(kept) == number + 1 and names[won.index(True)] in kept


def test_a_commit_whose_answer_was_lost_is_known_as_ones_own(store: tuple[str, LossyRelay]) -> None:
    warehouse, relay = store
    writer = Appender(PLANS, warehouse)
    for number in range(3):
        files = writer.write(row(f"plan-{number}"), 0)
        relay.lose = {f"_delta_log/{writer.version + 1:020d}.json"}
        writer.commit(files, Transaction("test", number))
        assert not relay.lose
    assert len(relay.lost) == 3
    table = DeltaTable(f"{warehouse}/{PLANS.name}")
    assert sorted(table.to_pyarrow_table(columns=["plan_id"])["plan_id"].to_pylist()) == ["plan-0", "plan-1", "plan-2"]
    assert table.version() == writer.version
