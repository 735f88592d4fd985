"""What did not fit a pool's nodes together is remembered while a plan is made, and the plan made again with it.

The strategy sees what each pool's nodes hold of every shape of worker alone (`node_limits`). Shapes beside each other,
shares of GPUs and CPUs that lie in pieces, may still not fit, and whoever is left over then pays for a far dearer pool,
or waits, though another could have stood aside for cents. So what was seen becomes a limit of that one pool: of these
tasks at most so many. Where it is proven (`together`) and holds for every plan, the bound knows it, too. Such limits
are cover inequalities (Balas, "Facets of the knapsack polytope", Mathematical Programming 8, 1975), of nodes instead of
sums.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.joint_fit import JointFit, NodeState, states_of
from thalweg.scheduling.live.node_limits import workers_by_pool
from thalweg.scheduling.pack.nodes import Need, Nodes
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.world.tasks import Part

MOST_STEPS = 4_000
"""Steps that one plan may look for proofs: some twenty milliseconds."""
MOST_COPIES = 48
"""In one pool, of which a proof is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Of some classes together, at most so much in a pool."""

    pool: int
    uses: tuple[tuple[int, float], ...]
    """By row, what a copy takes of it."""
    most: float
    proven: bool
    """No plan has more of them there: the bound may know it."""


def with_cuts(problem: Problem, cuts: Sequence[Cut]) -> Problem:
    """Add a dimension for each cut."""
    if not cuts:
        return problem
    classes, pools = problem.classes, problem.pools
    uses, limits = np.zeros((len(classes), len(cuts))), np.zeros((len(pools), len(cuts)))
    for at, cut in enumerate(cuts):
        for row, used in cut.uses:
            uses[row, at] = used
        limits[:, at] = max(float((classes.count * classes.replicas) @ uses[:, at]), cut.most)
        limits[cut.pool, at] = cut.most
    return replace(
        problem,
        pools=replace(pools, capacity=np.column_stack([pools.capacity, limits])),
        classes=replace(classes, need=np.column_stack([classes.need, uses])),
    )


@dataclass(slots=True, kw_only=True)
class CutMaker:
    """Makes cuts of what did not fit the nodes as they are before the plan."""

    nodes: Nodes
    demands: Sequence[Demand]
    together: JointFit
    _states: dict[int, list[NodeState]] = field(default_factory=dict)
    _known_apart: dict[tuple[int, frozenset[tuple[Part, ...]]], bool] = field(default_factory=dict)

    def cuts_of(self, missed: Mapping[int, Counter[int]], fitted: Mapping[int, int]) -> list[Cut]:
        """Make them.

        Args:
            missed: by pool that did not hold all that was planned there, the copies planned by row.
            fitted: how many of them did fit.

        Returns:
            Those that are proven; where none is, one for each pool that says what was seen.
        """
        proven, seen = list[Cut](), list[Cut]()
        for pool, planned in missed.items():
            if pool not in self._states:
                self._states[pool] = states_of(self.nodes, pool)
            states = self._states[pool]
            least = _least(self.demands, planned, states, self.together)
            if least is None:
                if fitted[pool] < planned.total():
                    uses = tuple((row, 1.0) for row in sorted(planned))
                    seen.append(Cut(pool=pool, uses=uses, most=float(fitted[pool]), proven=False))
            elif least.total() == 2:
                proven.append(self._one_of_them(pool, least))
            else:
                proven.append(self._cover(pool, least))
        return proven or seen

    def _one_of_them(self, pool: int, least: Counter[int]) -> Cut:
        """Of classes of which no two fit side by side there is one at most; alone it may have as many as fit."""
        rows = sorted(least)
        for row in sorted(set(range(len(self.demands))) - set(rows), key=lambda row: (_size(self.demands[row]), row)):
            if all(self._apart(row, other, pool) for other in rows):
                rows.append(row)
        uses = tuple((row, 1.0 / (1 if least[row] > 1 else self._alone(row, pool))) for row in sorted(rows))
        return Cut(pool=pool, uses=uses, most=1.0, proven=True)

    def _apart(self, row: int, other: int, pool: int) -> bool:
        """Whether copies of two classes do not fit side by side; asked once of any that are alike."""
        alike = pool, frozenset(self.demands[one].key.spec.parts for one in (row, other))
        if alike not in self._known_apart:
            fit = self.together.fits(_needs(self.demands, Counter([row, other])), self._states[pool])
            self._known_apart[alike] = fit is False
        return self._known_apart[alike]

    def _alone(self, row: int, pool: int) -> int:
        """Most copies of a class that there can be in a pool."""
        demand = self.demands[row]
        fit = min(int(workers_by_pool(self.nodes, part.need)[pool]) // part.workers for part in demand.key.spec.parts)
        return max(min(fit, len(demand.tasks)), 1)

    def _cover(self, pool: int, least: Counter[int]) -> Cut:
        """Forbid all of them side by side."""
        demands = self.demands
        # As many of those that contain each of these fit no better: the cover is extended by them.
        larger = {row for row in range(len(demands)) if all(_contains(demands[row], demands[one]) for one in least)}
        # More of one of these than there are in it, in place of another, may fit: then it is no limit of every plan.
        holds = all(row in larger or len(demands[row].tasks) == count for row, count in least.items())
        rows = sorted(least.keys() | larger if holds else least)
        uses = tuple((row, 1.0) for row in rows)
        return Cut(pool=pool, uses=uses, most=float(least.total() - 1), proven=holds)


def _least(
    demands: Sequence[Demand], planned: Counter[int], states: Sequence[NodeState], together: JointFit
) -> Counter[int] | None:
    """Find a smallest part of what was planned that does not fit for sure; None where all of it may fit."""
    if planned.total() > MOST_COPIES or together.fits(_needs(demands, planned), states) is not False:
        return None
    least = Counter(planned)
    for row in sorted(planned, key=lambda row: (_size(demands[row]), row)):
        while least[row]:
            fewer = least - Counter({row: 1})
            if together.fits(_needs(demands, fewer), states) is not False:
                break
            least = fewer
    return +least


def _needs(demands: Sequence[Demand], copies: Counter[int]) -> list[Need]:
    return [
        part.need
        for row, count in copies.items()
        for part in demands[row].key.spec.parts
        for _ in range(part.workers * count)
    ]


def _size(demand: Demand) -> tuple[float, float, float]:
    spec = demand.key.spec
    return spec.gpus, spec.cpus, spec.memory_gb


def _contains(large: Demand, small: Demand) -> bool:
    """Whether a copy of one fits wherever a copy of the other is taken away."""
    if len(large.key.spec.parts) > 1 or len(small.key.spec.parts) > 1:
        return large.key.spec.parts == small.key.spec.parts
    (one,), (other,) = large.key.spec.parts, small.key.spec.parts
    return one.workers >= other.workers and _takes(one, other)


def _takes(one: Part, other: Part) -> bool:
    large, small = one.need, other.need
    gpus = not small.gpus or (large.gpus >= small.gpus and large.gpu_milli >= small.gpu_milli)
    return gpus and large.cpu_milli >= small.cpu_milli and large.memory_mib >= small.memory_mib
