"""A world in which most tasks are columns answers as the one in which the whole story was told.

Equal in everything that an answer is made of: what is free, who sits where in which order, what tenants hold, who waits
before whom, and each task that is asked for by name.
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from tests.properties.world_histories import LIMITED, History
from thalweg.query.sql.query import QueryAnswer
from thalweg.scheduling.pack.nodes import Nodes
from thalweg.scheduling.world.crowd import LiveTasks
from thalweg.scheduling.world.crowd_world import world_of_crowd
from thalweg.scheduling.world.facts import NodeFacts, WorldFacts, node_key
from thalweg.scheduling.world.making import world_from
from thalweg.scheduling.world.world import World
from thalweg.streams.placement.many_needs import read_many
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.ledger.folds import fold_ledger
from thalweg.sync.ledger.live_columns import LiveColumns
from thalweg.sync.ledger.live_rows import LIVE_TASKS, PLACEMENTS
from thalweg.sync.ledger.short_story import short_story

NOW_MS = round(START.timestamp() * 1_000) + 60_000
EVERYBODY = 1 << 40


def both(rows: pa.Table, facts: WorldFacts, folder: Path, also: set[str]) -> tuple[World, World, LiveColumns]:
    """Make the world of the whole story, and the one with a crowd; and the columns of that."""
    tasks, placements = fold_ledger(rows)
    # The tables' rows lie in no order.
    tasks, placements = (table.take(np.random.default_rng(0).permutation(len(table))) for table in (tasks, placements))
    session = QueryBuilder()
    for name, table in (("tasks", tasks), ("placements", placements)):
        write_deltalake(str(folder / name), table, mode="overwrite")
        session.register(name, DeltaTable(str(folder / name)))
    read = [
        QueryAnswer(found=session.execute(text).read_all(), cut_off=False).rows for text in (LIVE_TASKS, PLACEMENTS)
    ]
    columns = LiveColumns(*read, read_many, read_spec, EVERYBODY, also)
    regions = sorted({fact.region for fact in facts.nodes or ()})
    crowded = world_of_crowd(
        facts, columns.crowd, columns.plain, columns.story_of, NOW_MS, heard=regions, tenants=LIMITED
    )
    story = short_story(tasks.to_pylist(), placements.to_pylist(), read_spec)
    told = world_from(facts, story, NOW_MS, heard=regions, tenants=LIMITED)
    for world in (told, crowded):
        world.wake(NOW_MS)
    return told, crowded, columns


def seen(world: World, names: list[str]) -> dict[str, Any]:
    """Everything that an answer is made of."""
    nodes, occupancy = world.nodes, world.occupancy
    used = np.flatnonzero(occupancy.used()).tolist()
    return {
        "pools": nodes.pools,
        "nodes": nodes.ids,
        "free": [nodes.gpu_milli_free.tolist(), nodes.cpu_milli_free.tolist(), nodes.memory_mib_free.tolist()],
        "has": [nodes.gpus.tolist(), nodes.cpu_milli.tolist(), nodes.memory_mib.tolist(), nodes.ready.tolist()],
        "seats": [(occupancy.owner(row), occupancy.entry(row)) for row in used],
        "holdings": {
            name: holding for name, holding in world.holdings.items() if holding.gpu_milli or holding.cpu_milli
        },
        "elastic": world.elastic,
        "waiting": {
            (one.key, one.key.missing): (world.waiting.first(one, len(one)), one.oldest_order, one.oldest_ms)
            for one in world.waiting.classes()
        },
        "regions": list(world.regions),
        "names": world.region_names,
        "tasks": {name: world.tasks.get(name) for name in names},
        "order": world.book.order,
        "arrays": {name: (sorted(line.admitted), sorted(line.line)) for name, line in world.gates.arrays.items()},
    }


def some_facts(rnd: random.Random) -> WorldFacts:
    """Three regions of four nodes each, of two models; one drains, one is gone."""
    nodes = [
        NodeFacts(
            region=region,
            node_id=f"n{index}",
            gpu_model=("A100", "H100", "")[index % 3],
            spot=index == 1,
            gpus=0 if index % 3 == 2 else 8,
            cpus=64.0,
            memory_gb=512.0,
            ready=rnd.random() > 0.1,
            draining=rnd.random() > 0.5,
        )
        for region in ("a", "b", "c")
        for index in range(4)
    ]
    return WorldFacts(
        nodes=nodes, prices={(r, m, s): 2.0 for r in "abc" for m in ("A100", "H100") for s in (True, False)}
    )


def some_ledger(rnd: random.Random) -> pa.Table:
    """Tasks of every kind: plain ones, and those of which more is to be said."""
    rows: list[dict[str, Any]] = []
    for index in range(rnd.randint(5, 60)):
        name = f"t{rnd.randint(0, 10_000)}-{index}"
        gpus = rnd.choice([0, 1, 2])
        kinds: tuple[dict[str, Any], ...] = (
            *({},) * 6,
            {"replicas": 2},
            {"workers": 2},
            {"workers": 3, "min_workers": 1},
            {"after": [f"t{rnd.randint(0, 9)}"]},
            {"not_before": NOW_MS + rnd.choice([-1_000, 1_000_000])},
            {"array": {"count": 2, "at_most": 1}},
            {"array": {"count": rnd.randint(1, 2)}},
            {"deadline": NOW_MS + 10_000_000},
            {"name": f"run {index}", "retries": {"at_most": 1}},
        )
        more = rnd.choice(kinds)
        needs = {"gpus": gpus, "cpus": rnd.choice([0.0, 2.5]), "memory_gb": rnd.choice([0.0, 3.0])}
        if gpus == 1 and rnd.random() < 0.3:
            needs = {"gpu_milli": 250}
        tenant = rnd.choice(["limited", "poor", "default"])
        rows.append(submitted(name, per_worker=needs, tenant=tenant, priority=rnd.choice([300, 500]), **more))
        if "after" in more:
            rows.append(submitted(more["after"][0]))
        whole = rows[-1]
        for element in range(more.get("array", {}).get("count", 0)):  # they begin with their array, and say the same
            one = f"{name}[{element}]"
            rows.append({**whole, "task_id": one})
            if rnd.random() < 0.5:
                rows += some_copy(rnd, one, needs, 1)
        if rnd.random() < 0.1:
            rows.append(happened(name, "held"))
        if rnd.random() < 0.6:
            rows += some_copy(rnd, name, needs, more.get("workers", 1))
        else:
            rows.append(happened(name, "waiting", reason="capacity: none"))
    return ledger(*rows)


def some_copy(rnd: random.Random, name: str, needs: dict[str, Any], workers: int) -> list[dict[str, Any]]:
    region, epoch = rnd.choice("abc"), rnd.randint(1, 3)
    devices = [rnd.randint(0, 7) for _ in range(workers * (needs.get("gpus") or int("gpu_milli" in needs)))]
    node = {"node_id": f"n{rnd.choice([0, 0, 1, 3, 9])}", "gpus": len(devices), "gpu_milli": needs.get("gpu_milli", 0)}
    shares = [{**node, "workers": workers, "devices": devices}]
    if workers == 2:
        half = len(devices) // 2
        shares = [
            {**node, "workers": 1, "gpus": half, "devices": devices[:half]},
            {**node, "node_id": "n0", "workers": 1, "gpus": half, "devices": devices[half:]},
        ]
    model = rnd.choice(["A100", "H100", "unheard of"])
    rows = [assigned(name, epoch, region, nodes=shares, cost_usd_per_hour=1.5, pool_id=f"{region}/{model}/on-demand")]
    for change in ("accepted", "running")[: rnd.randint(0, 2)]:
        rows.append(happened(name, change, epoch, region=region))
    if rnd.random() < 0.1:
        rows.append(happened(name, rnd.choice(["succeeded", "failed", "lost"]), epoch, region=region))
    return rows


@pytest.mark.parametrize("seed", range(60))
def test_a_crowd_is_what_its_story_is(seed: int, tmp_path: Path) -> None:
    rnd = random.Random(seed)
    rows = some_ledger(rnd)
    names = sorted(set(rows["task_id"].to_pylist()))
    told, crowded, columns = both(rows, some_facts(rnd), tmp_path, {rnd.choice(names)})
    assert seen(crowded, names) == seen(told, names)
    assert isinstance(crowded.tasks, LiveTasks)
    if seed == 0:
        assert columns.plain.sum() > 3, "nothing is proved where nobody is plain"
        assert (~columns.plain).sum() > 3


@pytest.mark.parametrize("seed", range(10))
def test_a_crowd_of_legal_lives_is_what_its_story_is(seed: int, tmp_path: Path) -> None:
    history = History(seed)
    for _ in range(4 + seed):
        history.batch()
    rows = pa.concat_tables(history.batches)
    names = sorted(set(rows["task_id"].to_pylist()))
    facts = WorldFacts(
        nodes=list(history.world.fleet.facts.values()),
        links=history.world.geography.links,
        prices=history.world.geography.prices,
        datasets=history.world.geography.datasets,
    )
    told, crowded, _ = both(rows, facts, tmp_path, set())
    assert seen(crowded, names) == seen(told, names)


@pytest.mark.parametrize("seed", range(6))
def test_a_child_that_was_submitted_before_its_parents_stands_behind_them(seed: int, tmp_path: Path) -> None:
    rnd = random.Random(seed)
    names = [f"t{number}" for number in range(8)]
    depth = rnd.sample(names, len(names))  # who waits for whom has nothing to do with who came first
    after = {name: rnd.sample(depth[:at], min(at, rnd.randint(0, 2))) for at, name in enumerate(depth)}
    one_by_one = [
        ledger(submitted(name, after=after[name], per_worker={"gpus": 1}), batch_id=batch, at_s=batch)
        for batch, name in enumerate(names, start=1)
    ]
    told, crowded, columns = both(pa.concat_tables(one_by_one), some_facts(rnd), tmp_path, set())
    places = {name: row for row, name in enumerate(columns.crowd.tasks.ids)}
    assert sorted(places) == names
    assert all(places[parent] < places[name] for name in names for parent in after[name])
    assert seen(crowded, names) == seen(told, names)


@pytest.mark.parametrize("seed", range(20))
def test_the_first_nodes_at_once_are_what_they_are_one_by_one(seed: int) -> None:
    rnd = random.Random(seed)
    facts = [replace(fact, gpus=rnd.choice([0, 8, 72])) for fact in some_facts(rnd).nodes or ()]
    at_once, one_by_one = World(), World()
    at_once.set_nodes(facts)
    one_by_one.set_nodes(facts[:1])
    one_by_one.set_nodes(facts)
    assert columns_of(at_once.nodes) == columns_of(one_by_one.nodes)
    assert at_once.fleet.facts.keys() == {node_key(fact.region, fact.node_id) for fact in facts}
    again = at_once.nodes.version.tolist()
    assert at_once.set_nodes(facts) == []
    assert at_once.nodes.version.tolist() == again


def columns_of(nodes: Nodes) -> dict[str, Any]:
    return {
        "ids": nodes.ids,
        "rows": nodes.row_of,
        "pools": nodes.pools,
        "members": [nodes.members(pool).tolist() for pool in range(len(nodes.pools))],
        **{
            name: getattr(nodes, name).tolist()
            for name in (
                "pool",
                "gpus",
                "cpu_milli",
                "memory_mib",
                "gpu_milli_free",
                "cpu_milli_free",
                "ready",
                "version",
            )
        },
    }


def test_who_is_asked_for_beyond_the_most_urgent_is_there(tmp_path: Path) -> None:
    rows = ledger(*(submitted(f"t{index}", priority=index) for index in range(5)))
    tasks, placements = fold_ledger(rows)
    answers = []
    for name, table, text in (("tasks", tasks, LIVE_TASKS), ("placements", placements, PLACEMENTS)):
        write_deltalake(str(tmp_path / name), table)
        session = QueryBuilder().register(name, DeltaTable(str(tmp_path / name)))
        answers.append(QueryAnswer(found=session.execute(text).read_all(), cut_off=False).rows)
    columns = LiveColumns(*answers, read_many, read_spec, 2, {"t0"})
    assert sorted(columns.crowd.tasks.ids) == ["t0", "t3", "t4"]
