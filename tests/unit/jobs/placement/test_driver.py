"""A life of `place` is put together from its ledger, its world and what the tables say, here without a broker."""

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from thalweg.conf.settings import Settings, WarehouseSettings
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.placement import driver as module
from thalweg.jobs.placement.driver import Driver
from thalweg.jobs.placement.edge import BrokerEdge
from thalweg.jobs.placement.recovery import recover
from thalweg.jobs.placement.snapshots import SnapshotKeeper
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.liveness.hearing import Hearing, Sounding
from thalweg.sync.delta.contracts import NODES
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.ledger.ledger import Ledger


class NothingTold:
    """Topics without records."""

    def __init__(self, *_: object) -> None: ...

    def read(self, *_: object) -> tuple[()]:
        return ()


def test_what_a_life_is_put_together_of_belongs_together_and_its_first_batch_knows_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"region": "east", "node_id": "n1", "gpus": 8, "gpu_model": "A100", "observed_at": 1_000_000}
    append(open_or_create(NODES, str(tmp_path)), pa.Table.from_pylist([node], schema=NODES.schema))
    hearing = Hearing(timeout_ms=1_000, start=Sounding(number=0, made_ms=0, ends={}))
    edge = SimpleNamespace(publisher=object(), hearing=hearing)
    monkeypatch.setattr(BrokerEdge, "open", lambda *_, **__: edge)
    monkeypatch.setattr(module, "KafkaPast", NothingTold)

    settings, stop = Settings(warehouse=WarehouseSettings(path=str(tmp_path))), Stop()
    ledger, host = Ledger.claim(str(tmp_path)), Host()
    world = recover(ledger, str(tmp_path), {}, 1_000)
    tables = PlaceTables(str(tmp_path), 1_000, 0, stop)
    snapshots = SnapshotKeeper(str(tmp_path), every_rows=10, every_s=600, stop=stop)
    life = Driver.of(
        settings, ledger, world, tables, snapshots, checkpoint=str(tmp_path / "q"), clock=lambda: 1_000, host=host
    )

    placer = life.placer
    assert (placer.ledger, placer.world, placer.tables, placer.host) == (ledger, world, tables, host)
    assert placer.publisher is life.edge.publisher and placer.fold.hearing is life.edge.hearing
    assert placer.fold.read_back is None, "no region was told of anything"
    assert [fact.node_id for fact in life.facts.drain().nodes or ()] == ["n1"]
