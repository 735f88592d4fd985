"""The plan document (JSON) to a Problem and back: the stable format of `thalweg plan`.

Equal tasks become one class, whatever their order in the document, so a document of a million equal tasks is as small a
problem as one of ten. Regions named only by links, data or tasks exist without pools.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.problem.model import (
    NOWHERE,
    SPOT_INTERRUPTIONS_PER_HOUR,
    Network,
    Problem,
    Tenants,
    Weights,
    local_network,
    make_classes,
    make_pools,
)
from thalweg.scheduling.problem.solution import Solution, spread_copies

NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(min_length=1)]


class ProblemFormatError(ValueError):
    """A plan document that cannot be read; the message starts with the path in the document."""


class PoolEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pool of a region. `cpus` and `memory_gb` null means not a limit."""

    pool: Name
    gpu_model: Name
    gpus: NonNegative
    usd_per_gpu_hour: NonNegative
    spot: bool = False
    interruptions_per_hour: NonNegative | None = None
    cpus: NonNegative | None = None
    memory_gb: NonNegative | None = None


class ProblemRegionEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One region and its pools."""

    region: Name
    pools: list[PoolEntry] = []


class LinkEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One directed link. `gbps` null means not a limit."""

    src: Name
    dst: Name
    rtt_ms: NonNegative
    gbps: NonNegative | None = None
    usd_per_gb: NonNegative


class ItemEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Data a task reads: in one region, or in any of several that hold a copy."""

    size_gb: NonNegative
    region: Name | None = None
    regions: tuple[Name, ...] = ()


class TaskEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One task; `gpus` is its whole need, all in one pool of one region."""

    task_id: Name
    gpus: NonNegative
    gpu_models: tuple[str, ...] | None = None
    expected_s: NonNegative
    priority: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31)] = 0
    data: tuple[ItemEntry, ...] = ()
    origin_region: str | None = None
    max_rtt_ms: NonNegative | None = None
    allowed_regions: tuple[RegionId, ...] | None = None
    replicas: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    spot_ok: bool = False
    checkpoint_s: NonNegative | None = None
    max_usd_per_hour: NonNegative | None = None
    tenant: str | None = None
    cpus: NonNegative = 0.0
    memory_gb: NonNegative = 0.0


class WeightsEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights of the objective; `wait` is the price in USD of one unplaced task."""

    rtt: NonNegative = 0.0
    risk: NonNegative = 0.0
    move: NonNegative = 0.0
    balance: NonNegative = 0.0
    wait: NonNegative = 1_000_000.0


class TenantEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hard limits of a tenant; null means none."""

    tenant: Name
    quota_gpus: NonNegative | None = None
    max_usd_per_hour: NonNegative | None = None


class PlanDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole document."""

    regions: list[ProblemRegionEntry]
    links: list[LinkEntry] = []
    tasks: list[TaskEntry]
    weights: WeightsEntry = WeightsEntry()
    current: dict[str, list[str]] = {}
    tenants: list[TenantEntry] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProblem:
    """A problem, the task ids of each of its classes, sorted, and the field of each dimension."""

    problem: Problem
    members: tuple[tuple[str, ...], ...]
    dimensions: tuple[str, ...]


def read_problem(raw: bytes) -> ReadProblem:
    """Decode a plan document.

    Raises:
        ProblemFormatError: with the path in the document, what was seen and what is allowed.
    """
    try:
        document = msgspec.json.decode(raw, type=PlanDocument)
    except msgspec.MsgspecError as error:
        raise ProblemFormatError(str(error)) from None
    except RecursionError:
        raise ProblemFormatError("$: nested too deep to be read") from None
    except UnicodeDecodeError as error:
        raise ProblemFormatError(f"$: not UTF-8 at byte {error.start}") from None
    _once("$.regions[{}].region", (entry.region for entry in document.regions))
    _once("$.tasks[{}].task_id", (task.task_id for task in document.tasks))
    _once("$.tenants[{}].tenant", (entry.tenant for entry in document.tenants))
    _once("$.links[{}]", (f"{link.src} -> {link.dst}" for link in document.links))
    _once("pool {} of $.regions", (pool.pool for entry in document.regions for pool in entry.pools))
    _known_currents(document)
    return _to_problem(document)


def _once(path: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise ProblemFormatError(f"{path.format(index)}: {name!r} appears twice; each may appear once")
        seen.add(name)


def _known_currents(document: PlanDocument) -> None:
    """Refuse what `current` says of nobody: a misspelt name would make a move look free."""
    tasks = {task.task_id for task in document.tasks}
    pools = {pool.pool for entry in document.regions for pool in entry.pools}
    for task_id, running in document.current.items():
        if task_id not in tasks:
            raise ProblemFormatError(f"$.current: there is no task {task_id!r} among $.tasks")
        for pool in running:
            if pool not in pools:
                raise ProblemFormatError(f"$.current.{task_id}: there is no pool {pool!r} in $.regions")


def _to_problem(document: PlanDocument) -> ReadProblem:
    regions = tuple(sorted(_named_regions(document)))
    region_of = {name: index for index, name in enumerate(regions)}
    placed = [(pool, region_of[entry.region]) for entry in document.regions for pool in entry.pools]
    models = tuple(sorted({pool.gpu_model for pool, _ in placed}))
    model_of = {name: index for index, name in enumerate(models)}
    pool_of = {pool.pool: index for index, (pool, _) in enumerate(placed)}
    tenant_ids = sorted({entry.tenant for entry in document.tenants} | {t.tenant for t in document.tasks if t.tenant})
    tenant_of = {name: index for index, name in enumerate(tenant_ids)}
    # Further dimensions exist only when some task asks for them: the common document stays a pure flow.
    dimensions = ["gpus"] + [name for name in ("cpus", "memory_gb") if any(getattr(t, name) for t in document.tasks)]
    total = {name: sum(getattr(task, name) * task.replicas for task in document.tasks) for name in dimensions}
    capacity = [
        [total[name] if getattr(pool, name) is None else getattr(pool, name) for name in dimensions]
        for pool, _ in placed
    ]
    pools = make_pools(
        [pool.pool for pool, _ in placed],
        region=np.array([region for _, region in placed], np.int64),
        gpu_model=np.array([model_of[pool.gpu_model] for pool, _ in placed], np.int64),
        capacity=np.array(capacity, float).reshape(len(placed), len(dimensions)),
        usd_per_gpu_hour=np.array([pool.usd_per_gpu_hour for pool, _ in placed], float),
        spot=np.array([pool.spot for pool, _ in placed], bool),
        interruptions_per_hour=np.array([_hazard(pool) for pool, _ in placed], float),
    )
    groups = _equal_tasks(document)
    first = [group[0] for group in groups]
    size = len(first)
    item_start, copy_start, current_start = [0], [0], [0]
    item_size_gb: list[float] = []
    copy_region: list[int] = []
    current_pool: list[int] = []
    model_mask = np.ones((size, len(models)), bool)
    region_mask = np.ones((size, len(regions)), bool)
    for row, task in enumerate(first):
        if task.gpu_models is not None:
            model_mask[row] = [model in task.gpu_models for model in models]
        if task.allowed_regions is not None:
            region_mask[row] = [region in task.allowed_regions for region in regions]
        for size_gb, held in _items(task):
            item_size_gb.append(size_gb)
            copy_region.extend(region_of[region] for region in held)
            copy_start.append(len(copy_region))
        item_start.append(len(item_size_gb))
        current_pool.extend(sorted(pool_of.get(pool, NOWHERE) for pool in document.current.get(task.task_id, ())))
        current_start.append(len(current_pool))
    none = float("inf")
    classes = make_classes(
        [task.task_id for task in first],
        count=np.array([len(group) for group in groups], np.int64),
        need=np.array([[getattr(t, name) for name in dimensions] for t in first], float).reshape(size, len(dimensions)),
        expected_h=np.array([task.expected_s / 3600.0 for task in first], float),
        wait_usd=document.weights.wait,
        regions=len(regions),
        gpu_model_count=len(models),
        priority=np.array([task.priority for task in first], np.int64),
        gpu_models=model_mask,
        allowed_regions=region_mask,
        spot_ok=np.array([task.spot_ok for task in first], bool),
        checkpoint_h=np.array([none if t.checkpoint_s is None else t.checkpoint_s / 3600.0 for t in first], float),
        origin=np.array([region_of[t.origin_region] if t.origin_region else NOWHERE for t in first], np.int64),
        max_rtt_ms=np.array([none if task.max_rtt_ms is None else task.max_rtt_ms for task in first], float),
        max_usd_per_hour=np.array([none if t.max_usd_per_hour is None else t.max_usd_per_hour for t in first], float),
        replicas=np.array([task.replicas for task in first], np.int64),
        tenant=np.array([tenant_of[task.tenant] if task.tenant else NOWHERE for task in first], np.int64),
        items=(
            np.array(item_start),
            np.array(item_size_gb, float),
            np.array(copy_start),
            np.array(copy_region, np.int64),
        ),
        current=(np.array(current_start), np.array(current_pool, np.int64)),
    )
    weights = document.weights
    problem = Problem(
        regions=regions,
        gpu_models=models,
        pools=pools,
        network=_network(document, region_of),
        classes=classes,
        weights=Weights(rtt=weights.rtt, risk=weights.risk, move=weights.move, balance=weights.balance),
        tenants=_tenants(document, tenant_ids),
    )
    members = tuple(tuple(task.task_id for task in group) for group in groups)
    return ReadProblem(problem=problem, members=members, dimensions=tuple(dimensions))


def _named_regions(document: PlanDocument) -> set[str]:
    names = {entry.region for entry in document.regions}
    for link in document.links:
        names |= {link.src, link.dst}
    for task in document.tasks:
        names.update(region for _, held in _items(task) for region in held)
        if task.origin_region:
            names.add(task.origin_region)
    return names


def _hazard(pool: PoolEntry) -> float:
    if pool.interruptions_per_hour is not None:
        return pool.interruptions_per_hour
    return SPOT_INTERRUPTIONS_PER_HOUR if pool.spot else 0.0


def _items(task: TaskEntry) -> list[tuple[float, tuple[str, ...]]]:
    """Data items as (size, regions with a copy), in an order that does not depend on the document's."""
    items = []
    for index, item in enumerate(task.data):
        held = tuple(sorted({*item.regions, *((item.region,) if item.region else ())}))
        if not held:
            raise ProblemFormatError(f"task {task.task_id!r} data[{index}]: no region; give `region` or `regions`")
        items.append((item.size_gb, held))
    return sorted(items, key=lambda item: (item[1], item[0]))


def _equal_tasks(document: PlanDocument) -> list[list[TaskEntry]]:
    """Tasks with the same needs, each group sorted by id, groups ordered by their first id."""
    groups: dict[object, list[TaskEntry]] = {}
    for task in document.tasks:
        runs = tuple(sorted(document.current.get(task.task_id, ())))
        models = None if task.gpu_models is None else frozenset(task.gpu_models)
        allowed = None if task.allowed_regions is None else frozenset(task.allowed_regions)
        key = (
            task.gpus, task.cpus, task.memory_gb, models, task.expected_s, task.priority, tuple(_items(task)),
            task.origin_region, task.max_rtt_ms, allowed, task.replicas, task.spot_ok, task.checkpoint_s,
            task.max_usd_per_hour, task.tenant, runs,
        )  # fmt: skip
        groups.setdefault(key, []).append(task)
    return sorted((sorted(group, key=lambda t: t.task_id) for group in groups.values()), key=lambda g: g[0].task_id)


def _network(document: PlanDocument, region_of: dict[str, int]) -> Network:
    network = local_network(len(region_of))
    for link in document.links:
        pair = region_of[link.src], region_of[link.dst]
        network.rtt_ms[pair] = link.rtt_ms
        network.gbps[pair] = np.inf if link.gbps is None else link.gbps
        network.usd_per_gb[pair] = link.usd_per_gb
    return network


def _tenants(document: PlanDocument, tenant_ids: list[str]) -> Tenants:
    known = {entry.tenant: entry for entry in document.tenants}
    quota = [known[name].quota_gpus if name in known else None for name in tenant_ids]
    budget = [known[name].max_usd_per_hour if name in known else None for name in tenant_ids]
    return Tenants(
        tenant_ids=tuple(tenant_ids),
        quota_gpus=np.array([np.inf if value is None else value for value in quota], float),
        budget_usd_per_hour=np.array([np.inf if value is None else value for value in budget], float),
    )


class AssignmentEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Where one task runs: one pool a copy."""

    task_id: str
    pools: list[str]
    usd: float


class UnplacedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is not placed."""

    task_id: str
    reason: str
    detail: str


class PlanResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `thalweg plan`."""

    strategy: str
    status: str
    objective: float
    bound: float
    gap: float
    solve_ms: float
    stopped_because: str
    assignments: list[AssignmentEntry]
    unplaced: list[UnplacedEntry]


def write_solution(read: ReadProblem, solution: Solution, solve_ms: float) -> PlanResult:
    """Name the tasks of a solution: within a class, the first ids are placed and the last wait."""
    problem, assignments = read.problem, []
    starts = np.searchsorted(solution.class_index, np.arange(len(read.members) + 1))
    for row, members in enumerate(read.members):
        arcs = slice(starts[row], starts[row + 1])
        pools, usd = solution.pool_index[arcs], solution.usd[arcs]
        tasks, replicas = int(solution.placed[row]), int(problem.classes.replicas[row])
        dealt = spread_copies(problem.pools.region[pools], solution.count[arcs], tasks, replicas)
        for task_id, copies in zip(members, dealt, strict=False):
            names = [problem.pools.pool_ids[pools[copy]] for copy in copies]
            assignments.append(AssignmentEntry(task_id=task_id, pools=names, usd=float(usd[copies].sum())))
    unplaced = [
        UnplacedEntry(task_id=task_id, reason=entry.reason.value, detail=entry.detail)
        for entry in solution.unplaced
        for task_id in read.members[entry.class_index][int(solution.placed[entry.class_index]) :]
    ]
    return PlanResult(
        strategy=solution.strategy,
        status=solution.status.value,
        objective=solution.objective,
        bound=solution.bound,
        gap=solution.gap,
        solve_ms=solve_ms,
        stopped_because=solution.stopped_because.value,
        assignments=sorted(assignments, key=lambda entry: entry.task_id),
        unplaced=sorted(unplaced, key=lambda entry: entry.task_id),
    )
