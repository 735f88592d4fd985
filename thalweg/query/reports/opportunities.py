"""What runs dear: what would be cheaper elsewhere now, by how much, and which moves were made.

Prices, limits and room are the planner's: each answer asks it to place the copy anew, its own room counted as free, in
the world that the tables tell (as `query.questions.explain` does for one task). Tasks of equal needs in one pool are asked about
once.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement.settings import assumed_price, plan_settings, tenants_of
from thalweg.query.sql.query import TableReader, quote
from thalweg.scheduling.again.proposals import FIRST_WORDS, SaidSaving
from thalweg.scheduling.decisions.ordering import BY_HAND
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.live.live_plan import CopyAssignment
from thalweg.scheduling.world.making import world_from
from thalweg.scheduling.world.orders import read_order_row
from thalweg.scheduling.world.tasks import SILENT, Copy, Task, TaskSpec, sized
from thalweg.scheduling.world.world import World
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.ledger.live_rows import ORDERS
from thalweg.sync.ledger.short_story import PLACEMENT_COLUMNS, TASK_COLUMNS, short_story
from thalweg.sync.tables.world_tables import world_facts

_LEAST_USD: Final = 0.005
"""What a cent's half is less than is no opportunity, but how floats are added."""
_HOUR_MS: Final = 3_600_000
_LEFT: Final = ("revoked", "preempted", "lost", "evicted", "failed")
"""Transitions by which a copy leaves its place without having ended its task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opportunity:
    """Copies of equal needs in one pool, and a place where each of them would cost less now."""

    tasks: int
    """How many copies; for each, the room of the others counts as taken."""
    example: str
    """The task that was assigned last of them."""
    tenant: str
    gpus: float
    """Of one copy."""
    pool_id: str
    to_pool_id: str
    here_usd: float
    """What one copy would cost if it were placed in its pool now, its whole run."""
    there_usd: float
    moving_saves_usd: float
    """What moving the one that was assigned last would save: to stay costs what is left of its expected run, without
    its data, which is there; to move costs its whole run there and the price of a move. Negative: it would cost."""

    @property
    def cheaper_usd(self) -> float:
        """By how much it is cheaper there, for one copy."""
        return self.here_usd - self.there_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class MovesMade:
    """Moves between two pools, by the reason why the copies left the first (`why_left`)."""

    why: str
    pool_id: str
    to_pool_id: str
    moves: int
    usd_per_hour_before: float
    usd_per_hour_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAgain:
    """Moves that the place job made of itself, by their reason: what they were to save, and what they have saved."""

    why: str
    moves: int
    running: int
    """Of them, those that run still where they were moved to."""
    expected_usd: float
    """Over the rest of their runs, as their rows say; negative where they moved for somebody else."""
    realised_usd: float
    """What the hours that they have run there so far cost less, at the prices of the move, and what was lost by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opportunities:
    """The report."""

    found: list[Opportunity]
    """The greatest saving of all copies first."""
    copies: int
    """Placed copies that were asked about."""
    not_asked: int
    """Placed copies of the cheapest groups, beyond what was asked about."""
    no_price: int
    """Of those asked about: copies whose own pool would not take them now, so that nothing can be compared."""
    moves: list[MovesMade]
    """The most frequent first."""
    looked_again: list[LookedAgain]
    """Of these, what looks at what runs have led to."""


def opportunities(
    reader: TableReader, settings: PlaceSettings, now: datetime, since: datetime, *, most_groups: int
) -> Opportunities:
    """Look at everything that is placed.

    Args:
        reader: of the tables of now.
        settings: of the place job, so that prices and limits are those of its plans.
        now: the moment.
        since: moves are told from here on.
        most_groups: groups of equal tasks that the planner is asked about, those that pay most by the hour first.
    """
    now_ms = int(now.timestamp() * 1_000)
    world, rates = _world(reader, settings, now_ms)
    explainer = Explainer(world, replace(plan_settings(settings), fair_share=False))
    groups = _groups(world, rates)
    asked = groups[:most_groups]
    found: list[Opportunity] = []
    no_price = 0
    for group in asked:
        compared = _compared(explainer, group, now_ms, settings.weights.move)
        if compared is None:
            no_price += len(group)
        else:
            found += [one for one in compared if one.cheaper_usd >= _LEAST_USD]
    return Opportunities(
        found=sorted(found, key=lambda one: (-one.tasks * one.cheaper_usd, one.example)),
        copies=sum(map(len, asked)),
        not_asked=sum(map(len, groups[most_groups:])),
        no_price=no_price,
        moves=_moves(reader, since),
        looked_again=_looked_again(reader, since, now),
    )


_Placed = tuple[Task, Copy]


def _world(reader: TableReader, settings: PlaceSettings, now_ms: int) -> tuple[World, dict[tuple[str, int], float]]:
    """Make the planner's world of all that is placed; and what each copy costs by the hour."""
    tasks = ", ".join(TASK_COLUMNS)
    holding = reader.dicts(f"SELECT {tasks} FROM tasks WHERE task_id IN (SELECT task_id FROM placements)")
    placements = reader.dicts(f"SELECT {', '.join(PLACEMENT_COLUMNS)} FROM placements")

    def read(sql: str) -> pa.Table:
        return reader.ask(sql).rows

    world = world_from(
        world_facts(read, settings.node_timeout_ms),
        short_story(holding, placements, read_spec),
        now_ms,
        heard=heard_regions(reader, settings.heartbeat_timeout_ms),
        tenants=tenants_of(settings),
    )
    world.assume_price(assumed_price(settings))
    for row in reader.dicts(ORDERS):
        world.obey(read_order_row(row["ordered"]))
    return world, {(row["task_id"], row["copy"]): row["cost_usd_per_hour"] or 0.0 for row in placements}


def heard_regions(reader: TableReader, heartbeat_timeout_ms: int) -> list[RegionId]:
    """Name the regions whose samples are not older than others' by more than a region may be silent."""
    seen = reader.dicts("SELECT region, max(observed_at) AS seen FROM nodes GROUP BY region")
    last = max((row["seen"] for row in seen), default=None)
    timeout = timedelta(milliseconds=heartbeat_timeout_ms)
    return sorted(row["region"] for row in seen if last is not None and last - row["seen"] <= timeout)


def _groups(world: World, rates: dict[tuple[str, int], float]) -> list[list[_Placed]]:
    """Put copies together that the planner does not tell apart, the dearest first; the last assigned first in each."""
    by_needs: dict[object, list[_Placed]] = defaultdict(list)
    for task in world.tasks.values():
        for copy in task.copies.values():
            others = frozenset(_regions_of_others(task, copy))
            by_needs[_spec(task, copy), copy.pool, others].append((task, copy))

    def rate(group: Iterable[_Placed]) -> float:
        return sum(rates.get((task.task_id, copy.index), 0.0) for task, copy in group)

    groups = [sorted(group, key=lambda one: (-one[1].assigned_ms, one[0].task_id)) for group in by_needs.values()]
    return sorted(groups, key=lambda group: (-rate(group), group[0][0].task_id))


def _regions_of_others(task: Task, copy: Copy) -> list[RegionId]:
    """Where the task's other copies are, or have succeeded: no two are ever in one region."""
    return sorted({other.region for other in task.copies.values() if other is not copy} | task.done_regions)


def _spec(task: Task, copy: Copy) -> TaskSpec:
    return task.spec if task.spec.min_workers is None else sized(task.spec, copy.workers)


def _compared(explainer: Explainer, group: list[_Placed], now_ms: int, move_usd: float) -> "list[Opportunity] | None":
    """Compare a group's pool with the cheapest other one; None where the own pool would not take it now."""
    task, copy = group[0]
    spec, mine = _spec(task, copy), (task.task_id, copy.index)
    here = explainer.in_pool(spec, copy.pool, now_ms, instead_of=mine)
    if here is None:
        return None
    taken = _regions_of_others(task, copy)
    options = explainer.options(spec, now_ms, taken=taken, instead_of=mine)
    elsewhere = [one.best for one in options if one.best is not None and one.best.pool_id != copy.pool_id]
    if not elsewhere:
        return []
    there = min(elsewhere, key=lambda one: (one.usd, one.pool_id))
    return [
        Opportunity(
            tasks=len(group),
            example=task.task_id,
            tenant=spec.tenant,
            gpus=spec.gpus,
            pool_id=copy.pool_id,
            to_pool_id=there.pool_id,
            here_usd=here.usd,
            there_usd=there.usd,
            moving_saves_usd=_rest_usd(explainer, task, copy, now_ms) - there.usd - move_usd,
        )
    ]


def _rest_usd(explainer: Explainer, task: Task, copy: Copy, now_ms: int) -> float:
    """Price what is left of a copy's expected run where it is; its data is there."""
    spec = _spec(task, copy)
    left_s = spec.expected_s - (now_ms - copy.assigned_ms) / 1_000
    if left_s <= 0:
        return 0.0
    rest = explainer.in_pool(replace(spec, expected_s=left_s), copy.pool, now_ms, instead_of=(task.task_id, copy.index))
    return 0.0 if rest is None else _without_data(rest)


def _without_data(priced: CopyAssignment) -> float:
    return priced.usd - priced.money.egress_usd - priced.money.stall_usd


def _moves(reader: TableReader, since: datetime) -> list[MovesMade]:
    """Count the copies that were placed anew in another pool since a moment, by why they had left."""
    again = (
        "SELECT DISTINCT task_id FROM decisions WHERE transition = 'assigned' AND epoch > 1"
        f" AND decided_at >= TIMESTAMP {quote(since.isoformat())}"
    )
    places = reader.dicts(
        "SELECT task_id, copy, epoch, pool_id, decided_at, cost_usd_per_hour FROM decisions"
        f" WHERE transition = 'assigned' AND task_id IN ({again}) ORDER BY task_id, copy, epoch"
    )
    left = reader.dicts(
        "SELECT task_id, copy, transition, reason, decided_at FROM decisions"
        f" WHERE transition IN ({', '.join(map(quote, _LEFT))}) AND task_id IN ({again}) ORDER BY decided_at"
    )
    by_copy: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in left:
        by_copy[row["task_id"], row["copy"]].append(row)
    counted: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for before, after in _pairs(places):
        reasons = [
            why_left(row["transition"], row["reason"] or "")
            for row in by_copy[after["task_id"], after["copy"]]
            if before["decided_at"] <= row["decided_at"] <= after["decided_at"]
        ]
        if reasons and after["decided_at"] >= since and before["pool_id"] != after["pool_id"]:
            key = (reasons[-1], before["pool_id"], after["pool_id"])
            counted[key].append((before["cost_usd_per_hour"] or 0.0, after["cost_usd_per_hour"] or 0.0))
    made = [
        MovesMade(
            why=why,
            pool_id=pool_id,
            to_pool_id=to_pool_id,
            moves=len(rates),
            usd_per_hour_before=sum(before for before, _ in rates),
            usd_per_hour_after=sum(after for _, after in rates),
        )
        for (why, pool_id, to_pool_id), rates in counted.items()
    ]
    return sorted(made, key=lambda one: (-one.moves, one.why, one.pool_id, one.to_pool_id))


def why_left(transition: str, reason: str) -> str:
    """Say in two or three words why a copy left its place: who moved it, where its row says that it was moved."""
    return next((words for of, begins, words in _WHY if of == transition and re.match(begins, reason)), transition)


_WHY: Final = (
    ("revoked", re.escape(BY_HAND), "moved by a person"),
    ("revoked", re.escape(FIRST_WORDS), "moved by looking again"),
    ("revoked", r"drained: |\S+ is drained", "its place was drained"),
    ("revoked", "its request was updated", "its request was updated"),
    ("lost", f".*{re.escape(SILENT)}", "its region was lost"),
    ("lost", "its node is gone", "its node was lost"),
    ("lost", ".*does not hold it", "its region did not hold it"),
    ("preempted", "", "gave way to another"),
    ("evicted", "", "its region gave it back"),
    ("failed", "", "it failed"),
)
"""Transition and how the reason begins, and the words for it; the first that fits."""


def _looked_again(reader: TableReader, since: datetime, now: datetime) -> list[LookedAgain]:
    """Compare what moves were to save with what they have saved, by the hours that they ran where they went."""
    moved = (
        f"transition = 'assigned' AND starts_with(reason, '{FIRST_WORDS}')"
        f" AND decided_at >= TIMESTAMP {quote(since.isoformat())}"
    )
    rows = reader.dicts(f"SELECT task_id, copy, decided_at, reason FROM decisions WHERE {moved} ORDER BY decided_at")
    ends = reader.dicts(
        "SELECT task_id, copy, decided_at FROM decisions"
        f" WHERE transition IN ({', '.join(map(quote, (*_LEFT, 'succeeded')))})"
        f" AND task_id IN (SELECT task_id FROM decisions WHERE {moved}) ORDER BY decided_at DESC"
    )
    by_copy: dict[tuple[str, int], list[datetime]] = defaultdict(list)
    for row in ends:
        by_copy[row["task_id"], row["copy"]].append(row["decided_at"])
    told: dict[str, list[tuple[SaidSaving, float, bool]]] = defaultdict(list)
    for row in rows:
        said = SaidSaving.read(row["reason"])
        if said is None:
            continue
        later = [end for end in by_copy[row["task_id"], row["copy"]] if end > row["decided_at"]]
        hours = ((min(later) if later else now) - row["decided_at"]).total_seconds() / 3_600
        told[said.why.partition(" for ")[0]].append((said, hours, not later))
    return [
        LookedAgain(
            why=why,
            moves=len(of_reason),
            running=sum(still for _, _, still in of_reason),
            expected_usd=sum(said.saving_usd for said, _, _ in of_reason),
            realised_usd=sum(said.realised_usd(hours) for said, hours, _ in of_reason),
        )
        for why, of_reason in sorted(told.items(), key=lambda one: (-len(one[1]), one[0]))
    ]


def _pairs(places: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Give each place of a copy with the next one."""
    last: dict[str, Any] | None = None
    for place in places:
        if last is not None and (last["task_id"], last["copy"]) == (place["task_id"], place["copy"]):
            yield last, place
        last = place
