"""What lets a waiting task in where no single change does: several together, of which none can be left out.

First everything that the task asks for, and what stands against it, is let go at once; if that helps, one after
another is put back where it can be (a deletion filter, as for irreducible infeasible sets: Chinneck and Dravnieks
1991). What is left suffices, and every smaller part of it was planned with and does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import isfinite
from typing import Final

from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.pack.need import Pool
from thalweg.scheduling.world.tasks import TaskSpec

ROOM: Final = "room"
LIMITS: Final = "limits"

LET_GO: Final[Mapping[str, Callable[[TaskSpec], TaskSpec]]] = {
    "allowed_regions": lambda spec: replace(spec, allowed_regions=None),
    "gpu_models": lambda spec: replace(spec, gpu_models=None),
    "max_rtt_ms": lambda spec: replace(spec, max_rtt_ms=None),
    "data": lambda spec: replace(spec, data=()),
    "max_usd_per_hour": lambda spec: replace(spec, max_usd_per_hour=None),
    "spot_ok": lambda spec: replace(spec, spot_ok=True),
}
"""Demands of a task, by the field of its request; those that people can change least come first."""


def demands_of(spec: TaskSpec) -> list[str]:
    """Name what a task asks for that could be let go, what people can change least first."""
    return [name for name, let_go in LET_GO.items() if let_go(spec) != spec]


def without(spec: TaskSpec, names: frozenset[str]) -> TaskSpec:
    """Let demands go; names of what is no demand are passed over."""
    for name, let_go in LET_GO.items():
        if name in names:
            spec = let_go(spec)
    return spec


def none_to_spare(names: Sequence[str], suffices: Callable[[frozenset[str]], bool]) -> frozenset[str] | None:
    """Return a set of names that suffices, no part of which does; None where not even all of them do.

    Args:
        names: in the order in which they are put back, if they can be.
        suffices: asked of sets of them. More of them may suffice where fewer do not; where it is otherwise, what is
            returned is still such a set.
    """
    kept = frozenset(names)
    if not suffices(kept):
        return None
    for name in names:
        if suffices(kept - {name}):
            kept -= {name}
    for count in range(1, len(kept)):
        for part in combinations(sorted(kept), count):
            if suffices(frozenset(part)):
                return frozenset(part)
    return kept


def tightened(
    spec: TaskSpec, names: frozenset[str], used: Sequence[Pool], rtt_ms: Callable[[RegionId], float], usd: float
) -> TaskSpec:
    """Let demands go only as far as is needed for the pools that were used.

    Args:
        spec: the task's.
        names: demands that are let go.
        used: pools of the copies that were placed without them.
        rtt_ms: round trip from where the task's requests come from.
        usd: dearest price of one copy in these pools, US dollars an hour.
    """
    changed = without(spec, names)
    if "gpu_models" in names:
        models = {pool.gpu_model for pool in used} - set(spec.gpu_models or ())
        changed = replace(changed, gpu_models=(*(spec.gpu_models or ()), *sorted(models)))
    if "allowed_regions" in names:
        regions = {pool.region for pool in used} - set(spec.allowed_regions or ())
        changed = replace(changed, allowed_regions=(*(spec.allowed_regions or ()), *sorted(regions)))
    if "max_rtt_ms" in names:
        trip = max(rtt_ms(pool.region) for pool in used)
        changed = replace(changed, max_rtt_ms=trip if isfinite(trip) else None)
    if "max_usd_per_hour" in names:
        changed = replace(changed, max_usd_per_hour=usd)
    return changed


def words_of(spec: TaskSpec, changed: TaskSpec, names: frozenset[str]) -> Iterator[str]:
    """Say how a task's demands have changed."""
    if "gpu_models" in names:
        more = [model for model in changed.gpu_models or () if model not in (spec.gpu_models or ())]
        yield f"GPU model {' and '.join(more)} accepted, too" if more else "any GPU model accepted"
    if "allowed_regions" in names:
        regions = [region for region in changed.allowed_regions or () if region not in (spec.allowed_regions or ())]
        yield f"region {' and '.join(regions)} allowed, too" if regions else "every region allowed"
    if "max_rtt_ms" in names:
        trip = f"a round trip of {changed.max_rtt_ms:g} ms" if changed.max_rtt_ms is not None else "any round trip"
        yield f"{trip} instead of {spec.max_rtt_ms:g}"
    if "max_usd_per_hour" in names:
        price = f"{changed.max_usd_per_hour:.2f}" if changed.max_usd_per_hour is not None else "any number of"
        yield f"{price} USD an hour and copy instead of {spec.max_usd_per_hour:.2f}"
    if "spot_ok" in names:
        yield "spot capacity accepted"
    if "data" in names:
        yield "no data to bring"
