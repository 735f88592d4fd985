"""What placement reads of the world's tables: only what changed, and silence told from lateness."""

from pathlib import Path

import pyarrow as pa

from thalweg.scheduling.world.world import DatasetFacts
from thalweg.sync.delta.contracts import LINKS, NODES, PRICES, RECORDS, TableContract
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.tables.world_tables import WorldTables, node_facts


def write(folder: Path, contract: TableContract, *rows: dict[str, object]) -> None:
    append(open_or_create(contract, str(folder)), pa.Table.from_pylist(list(rows), schema=contract.schema))


def node(name: str, seen_s: int, **more: object) -> dict[str, object]:
    return {
        "region": "east",
        "node_id": name,
        "gpus": 8,
        "gpu_model": "A100",
        "observed_at": seen_s * 1_000_000,
        **more,
    }


def test_a_warehouse_without_tables_says_nothing(tmp_path: Path) -> None:
    facts = WorldTables(str(tmp_path), 60_000).read()
    assert (facts.nodes, facts.links, facts.prices, facts.datasets) == (None, None, None, None)


def test_each_table_is_read_once_and_again_when_it_has_moved(tmp_path: Path) -> None:
    write(tmp_path, NODES, node("n1", 100))
    write(tmp_path, LINKS, {"region": "east", "dst_region": "west", "rtt_ms": 7.0})
    write(tmp_path, PRICES, {"region": "east", "gpu_model": "A100", "spot": False, "usd_per_gpu_hour": 2.5})
    write(tmp_path, RECORDS, {"key": "dataset/images", "value": '{"copies": ["west"], "size_gb": 5}'})
    tables = WorldTables(str(tmp_path), 60_000)
    first = tables.read()
    assert first.nodes is not None
    assert [fact.node_id for fact in first.nodes] == ["n1"]
    assert first.links is not None
    assert first.links["east", "west"][0] == 7.0
    assert first.prices == {("east", "A100", False): 2.5}
    assert first.datasets == {"images": DatasetFacts(regions=("west",), size_gb=5.0)}
    assert tables.read().nodes is None
    write(tmp_path, NODES, node("n2", 101))
    second = tables.read()
    assert second.nodes is not None
    assert len(second.nodes) == 2
    assert second.prices is None


def test_a_node_is_silent_only_against_others_of_its_region(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist(
        [node("fresh", 500), node("silent", 100), node("drained", 500, state="draining"),
         {**node("alone", 100), "region": "west"}],
        schema=NODES.schema,
    )  # fmt: skip
    ready = {fact.node_id: fact.ready for fact in node_facts(rows, timeout_ms=60_000)}
    assert ready == {"fresh": True, "silent": False, "drained": False, "alone": True}


def test_a_node_that_drains_goes_on_until_it_falls_silent() -> None:
    rows = pa.Table.from_pylist(
        [node("fresh", 500), node("drains", 500, state="draining"), node("drained", 100, state="draining"),
         node("gone", 500, state="gone")],
        schema=NODES.schema,
    )  # fmt: skip
    facts = {fact.node_id: (fact.ready, fact.draining) for fact in node_facts(rows, timeout_ms=60_000)}
    assert facts == {
        "fresh": (True, False), "drains": (False, True), "drained": (False, False), "gone": (False, False)
    }  # fmt: skip
