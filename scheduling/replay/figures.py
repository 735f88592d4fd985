"""The figures by which replays are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.replay.replay import HOUR_S, Ending, RegionalSupply, Replay, ReplayJob


def summarise(jobs: Sequence[ReplayJob], fleet: RegionalSupply, result: Replay) -> dict[str, object]:
    """Return the figures of one replay.

    Supply is GPUs times the span from the begin to the last arrival. A region's demand is all the GPU time of what was
    placed there, however long it ran on; its utilisation is the part of it that lies within the span. Waiting counts
    the jobs that started after the begin, until their last copy started. Money is for what was run, and for the data
    that each start fetched.
    """
    span_s = max(result.last_arrival_s - result.begin_s, 1.0)
    supply_gpu_s = np.array(fleet.gpus) * span_s
    ran_s = result.end_s - result.start_s
    in_span_s = np.clip(
        np.minimum(result.end_s, result.begin_s + span_s) - np.maximum(result.start_s, result.begin_s), 0, None
    )
    demand = _by_index(result.region, ran_s * result.gpus, len(supply_gpu_s))
    used = _by_index(result.region, in_span_s * result.gpus, len(supply_gpu_s))
    waited_s = waiting_s(jobs, result)
    delayed_s = delays_s(jobs, result)
    started = np.unique(result.job)
    stopped = np.flatnonzero(result.ending == Ending.STOPPED)
    begun = set(zip(result.job.tolist(), result.start_s.tolist(), result.region.tolist(), strict=True))
    again = {(job, at) for job, at, _ in begun}
    ends = list(
        zip(result.job[stopped].tolist(), result.end_s[stopped].tolist(), result.region[stopped].tolist(), strict=True)
    )
    resizes = sum(end in begun for end in ends)
    moves = sum((job, at) in again for job, at, _ in ends) - resizes
    share = result.allocated_share_while_waiting
    return {
        "policy": result.policy,
        "jobs": len(jobs),
        "started": len(started),
        "wait_mean_s": _round(float(waited_s.mean()) if len(waited_s) else 0.0),
        "wait_p50_s": _round(_percentile(waited_s, 50)),
        "wait_p99_s": _round(_percentile(waited_s, 99)),
        "wait_longest_s": _round(float(waited_s.max(initial=0.0))),
        "wait_mean_s_gangs_of_8": _round(_mean_of_gangs(jobs, result)),
        "delay_mean_s": _round(float(delayed_s.mean()) if len(delayed_s) else 0.0),
        "utilisation_percent": round(100 * float(used.sum() / max(float(supply_gpu_s.sum()), 1e-12)), 3),
        "allocation_while_waiting_percent": None if np.isnan(share) else round(100 * share, 3),
        "demand_by_supply": _by_region(fleet, _ratio(demand, supply_gpu_s)),
        "utilisation_by_region": _by_region(fleet, _ratio(used, supply_gpu_s)),
        "max_demand_by_supply_ratio_to_fleet": _worst(demand, supply_gpu_s),
        "max_utilisation_ratio_to_fleet": _worst(used, supply_gpu_s),
        "compute_usd": _round(float((ran_s * result.usd_per_hour).sum()) / HOUR_S),
        "egress_usd": _round(float(result.egress_usd.sum())),
        "moved_gb": _round(float(result.moved_gb.sum())),
        "jobs_away_from_data": len(np.unique(result.job[result.moved_gb > 0])),
        "moves": moves,
        "resizes": resizes,
        "preemptions": len(ends) - moves - resizes,
        "lost": int((result.ending == Ending.LOST).sum()),
        "fingerprint": result.fingerprint(),
    }


GANG_GPUS: Final = 8


def _mean_of_gangs(jobs: Sequence[ReplayJob], result: Replay) -> float:
    """Mean wait of jobs that need as many GPUs as a large machine has, or more; 0 where there are none."""
    waited = waits(jobs, result)
    of_gangs = [waited_s for job, waited_s in waited.items() if jobs[job].gpus >= GANG_GPUS]
    return float(np.mean(of_gangs)) if of_gangs else 0.0


def waiting_s(jobs: Sequence[ReplayJob], result: Replay) -> FloatArray:
    """How long each job waited until its last copy first started, for those that were complete after the begin."""
    return np.array(list(waits(jobs, result).values()), np.float64)


def delays_s(jobs: Sequence[ReplayJob], result: Replay) -> FloatArray:
    """How much later each job of `waits` ended than it would have alone: it counts what a stop costs, too.

    Counted to the end of its last copy that ran to its end, from its arrival, less its run time; what an elastic task
    gained by more workers counts against it.
    """
    done = result.ending == Ending.FINISHED
    ended = dict[int, float]()
    for job, end_s in zip(result.job[done].tolist(), result.end_s[done].tolist(), strict=True):
        ended[job] = max(end_s, ended.get(job, -np.inf))
    counted = (job for job in waits(jobs, result) if job in ended)
    return np.array([ended[job] - jobs[job].arrive_s - jobs[job].run_s for job in counted], np.float64)


def waits(jobs: Sequence[ReplayJob], result: Replay) -> dict[int, float]:
    """See `waiting_s`; by job."""
    first = dict[tuple[int, int], float]()
    for job, region, start_s in zip(result.job.tolist(), result.region.tolist(), result.start_s.tolist(), strict=True):
        first.setdefault((job, region), start_s)
    starts: dict[int, list[float]] = {}
    for (job, _), start_s in first.items():
        starts.setdefault(job, []).append(start_s)
    complete = {job: sorted(at)[jobs[job].copies - 1] for job, at in starts.items() if len(at) >= jobs[job].copies}
    return {job: at - jobs[job].arrive_s for job, at in sorted(complete.items()) if at >= result.begin_s}


def _by_index(index: IntArray, gpu_s: FloatArray, size: int) -> FloatArray:
    return np.bincount(index, gpu_s, size).astype(np.float64)


def _worst(gpu_s: FloatArray, supply_gpu_s: FloatArray) -> float:
    """Largest regional ratio of GPU time to supply, as a multiple of the whole fleet's; 0 where nothing ran."""
    fleet = float(gpu_s.sum()) / max(float(supply_gpu_s.sum()), 1e-12)
    return round(float(_ratio(gpu_s, supply_gpu_s).max(initial=0.0)) / fleet, 4) if fleet else 0.0


def _ratio(gpu_s: FloatArray, supply_gpu_s: FloatArray) -> FloatArray:
    """GPU time by supply; 0 in a region without any."""
    return np.divide(gpu_s, supply_gpu_s, out=np.zeros(len(gpu_s)), where=supply_gpu_s > 0)


def _by_region(fleet: RegionalSupply, ratio: FloatArray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(fleet.regions, ratio, strict=True)}


def _percentile(values: FloatArray, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else 0.0


def _round(value: float) -> float:
    return round(value, 2)
