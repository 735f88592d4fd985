"""The best plan of a small problem, by a program written from the design's formula alone, a row a task.

Loops on purpose. It shares no code with the engine except the problem's columns, so that an error
there cannot hide here.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from thalweg.scheduling.problem.model import Problem


def arc_usd(problem: Problem, c: int, p: int) -> float | None:
    """Cost of one copy, None where forbidden."""
    k, pools, net, weights = problem.classes, problem.pools, problem.network, problem.weights
    region, gpus, hours = pools.region[p], k.need[c, 0], k.expected_h[c]
    if not k.gpu_models[c, pools.gpu_model[p]] or not k.allowed_regions[c, region]:
        return None
    if pools.spot[p] and not k.spot_ok[c]:
        return None
    egress, slowest_h = 0.0, 0.0
    for item in range(k.item_start[c], k.item_start[c + 1]):
        ways = []
        for copy in range(k.copy_start[item], k.copy_start[item + 1]):
            source = k.copy_region[copy]
            if math.isfinite(net.usd_per_gb[source, region]) and net.gbps[source, region] > 0:
                ways.append((net.usd_per_gb[source, region], -net.gbps[source, region]))
        if not ways:
            return None
        usd_per_gb, minus_gbps = min(ways)
        egress += k.item_size_gb[item] * usd_per_gb
        slowest_h = max(slowest_h, k.item_size_gb[item] * 8 / -minus_gbps / 3600)
    rtt = 0.0
    if k.origin[c] >= 0:
        rtt = net.rtt_ms[k.origin[c], region]
        if not math.isfinite(rtt) or rtt > k.max_rtt_ms[c]:
            return None
    rate = gpus * pools.usd_per_gpu_hour[p]
    if rate > k.max_usd_per_hour[c]:
        return None
    lost_h = pools.interruptions_per_hour[p] * hours * min(hours, k.checkpoint_h[c]) / 2
    running = list(k.current_pool[k.current_start[c] : k.current_start[c + 1]])
    move = weights.move if running and p not in running else 0.0
    return float(
        rate * hours + egress + rate * slowest_h + weights.rtt * rtt * hours + weights.risk * rate * lost_h + move
    )


def best_usd(problem: Problem, time_limit_s: float = 20.0) -> float | None:
    """Least objective of any plan (no balance term); None when the solver did not prove it in time."""
    k, pools, tenants = problem.classes, problem.pools, problem.tenants
    tasks = [c for c in range(len(k)) for _ in range(k.count[c])]
    width, size = len(pools), len(tasks)
    if not tasks:
        return 0.0
    total = size * width + size
    usd, upper = np.zeros(total), np.ones(total)
    whole, capacity = np.zeros((size, total)), np.zeros((problem.dimensions * width, total))
    spread = np.zeros((size * len(problem.regions), total))
    limits = np.zeros((2 * len(tenants), total))
    for t, c in enumerate(tasks):
        usd[size * width + t] = k.wait_usd[c]
        whole[t, size * width + t] = k.replicas[c]
        for p in range(width):
            column = t * width + p
            cost = arc_usd(problem, c, p)
            usd[column], upper[column] = (0.0, 0.0) if cost is None else (cost, 1.0)
            whole[t, column] = 1.0
            spread[t * len(problem.regions) + pools.region[p], column] = 1.0
            for d in range(problem.dimensions):
                capacity[d * width + p, column] = k.need[c, d]
            if k.tenant[c] >= 0:
                limits[k.tenant[c], column] = k.need[c, 0]
                limits[len(tenants) + k.tenant[c], column] = k.need[c, 0] * pools.usd_per_gpu_hour[p]
    copies = np.array([k.replicas[c] for c in tasks], float)
    rows = [
        LinearConstraint(whole, copies, copies),
        LinearConstraint(capacity, -np.inf, pools.capacity.T.ravel()),
        LinearConstraint(spread, -np.inf, 1.0),
    ]
    if len(tenants):
        rows.append(LinearConstraint(limits, -np.inf, np.append(tenants.quota_gpus, tenants.budget_usd_per_hour)))
    answer = milp(
        usd, integrality=np.ones(total), bounds=Bounds(0, upper), constraints=rows,
        options={"mip_rel_gap": 0.0, "time_limit": time_limit_s},
    )  # fmt: skip
    return float(answer.fun) if answer.status == 0 else None
