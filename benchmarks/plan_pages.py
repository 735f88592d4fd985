"""Write docs/placement-measurements.md and its plots from the results: `python -m benchmarks.plan_pages`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.plan import RESULTS
from conf.environment import PROJECT_ROOT

matplotlib.use("svg")

PAGE = PROJECT_ROOT / "docs" / "placement-measurements.md"
IMAGES = PROJECT_ROOT / "docs" / "images"


def page() -> str:
    """The page, from whatever results there are."""
    parts = [
        "# Placement: measurements",
        "",
        "Written by `python -m benchmarks.plan_pages` from `benchmarks/results/`.",
        "",
    ]
    for name, section in (("plan", _plan), ("replan", _replan), ("plan_proof", _proof)):
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts += section(json.loads(path.read_text(encoding="utf-8")))
    return "\n".join(parts).rstrip() + "\n"


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    load = f", load average {result['load_average']} at the start" if "load_average" in result else ""
    note = f" {result['note']}" if "note" in result else ""
    return (
        f"Machine: {machine['cores']} cores, {machine['memory_gb']} GB, {machine['processor']}, Python "
        f"{machine['python']}, OR-Tools {machine['packages']['ortools']}{load}. Where the load is "
        "above 1 others were at work: wall-clock seconds say little then, and processor seconds are on the high side."
        + note
    )


def _plan(result: dict[str, Any]) -> list[str]:
    lines = ["## Cost on the real graph of 62 regions (`thalweg bench plan`)", "", _machine(result), ""]
    graphs = result.get("real_graph", []) + result.get("real_graph_by_data", [])
    if graphs:
        lines += [
            "Every plan is paid at the real prices and links. *Price alone* takes the cheapest GPU whatever its data "
            "costs. *Believed* plans as exactly as `flow` does, but believes egress free inside a cloud and 10 Gbit/s "
            "everywhere. Prices, links and rules: `benchmarks/real_graph.py`.",
            "",
            "| seed | median data a task | flow, USD | gap | below price alone | below believed |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {g['seed']} | {g['median_gb']:g} GB | {g['flow_usd']:,.0f} | {g['flow_gap']:.2%} "
            f"| {g['price_alone_saved_percent']:.1f} % | {g['rule_saved_percent']:.1f} % |"
            for g in graphs
        ]
        lines += ["", "![cost by rule](images/placement-real-graph.svg)", ""]
    million = result["million_tasks"]
    lines += [
        "## A million tasks",
        "",
        f"{million['tasks']:,} tasks in {million['classes']:,} classes over {million['pools']} pools: cold "
        f"{million['cold_cpu_seconds']} s of processor time ({million['cold_seconds']} s wall clock), with the "
        f"prices of the plan before {million['warm_cpu_seconds']} s; gap {million['gap']:.3%}, "
        f"{million['waiting']} waiting.",
        "",
        "## A live micro-batch",
        "",
    ]
    batch = result["micro_batch"]
    lines += [
        f"{batch['classes']} classes over {batch['pools']} pools, live limits, prices of the batch before: "
        f"roomy {batch['roomy_cpu_p50_ms']} ms of processor time (wall clock p50 {batch['roomy_p50_ms']}, "
        f"p99 {batch['roomy_p99_ms']} ms), contended {batch['contended_cpu_p50_ms']} ms "
        f"(p50 {batch['contended_p50_ms']}, p99 {batch['contended_p99_ms']} ms).",
        "",
    ]
    if "strategies" not in result:
        return lines
    lines += [
        "## The strategies side by side",
        "",
        "Default effort, no deadline; the same bound for all. A task that waits costs 1,000,000 USD.",
        "",
        "| problem | strategy | USD | gap | waiting | CPU s | stopped |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['problem']} ({r['classes']} by {r['pools']}, {r['tasks']:,} tasks) | {r['strategy']} "
        f"| {r['objective_usd']:,.0f} | {r['gap']:.2%} | {r['waiting']} "
        f"| {r['cpu_seconds']:.2f} | {r['stopped_because']} |"
        for r in result["strategies"]
    ]
    return [*lines, ""]


def _replan(result: dict[str, Any]) -> list[str]:
    lines = ["## Planning again after 1 % change (`thalweg bench replan`)", "", _machine(result), ""]
    lines += ["| | replan | scale proof |", "|---|---|---|"]
    both = [result["replan"], result.get("scale", {})]
    for name in result["replan"] | result.get("scale", {}):
        values = [str(side.get(name, "")) for side in both]
        lines.append(f"| {name} | {values[0]} | {values[1]} |")
    return [
        *lines,
        "",
        "Nodes are summed up to the capacity of pools in every cycle; packing onto them is not included.",
        "",
    ]


def _proof(result: dict[str, Any]) -> list[str]:
    return [
        "## Equality with an independent exact program",
        "",
        f"{result['problems']:,} random problems: {result['equal']:,} equal, "
        f"{len(result['differing_seeds'])} different, "
        f"{result['reference_unproven']} that the reference did not finish; {result['violations']} violations, "
        f"{result['false_bounds']} bounds above the optimum, {result['reported_gap_above_1_percent']} reported gaps "
        f"above 1 %; worst {result['worst_above_optimum']:.1e} above the optimum; "
        f"slowest {result['slowest_cpu_seconds']} s.",
        "",
    ]


def plot_real_graph(result: dict[str, Any], path: Path) -> None:
    """Bars of realised cost by rule, over the size of the tasks' data."""
    from matplotlib.figure import Figure

    graphs = sorted(
        {g["median_gb"]: g for g in result["real_graph"][:1] + result.get("real_graph_by_data", [])}.values(),
        key=lambda g: float(g["median_gb"]),
    )
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for offset, (key, label) in enumerate(
        (("flow_usd", "flow"), ("rule_usd", "believed links"), ("price_alone_usd", "price alone"))
    ):
        axes.bar([i + 0.27 * offset for i in range(len(graphs))], [g[key] / 1e3 for g in graphs], 0.25, label=label)
    axes.set_xticks([i + 0.27 for i in range(len(graphs))], [f"{g['median_gb']:g} GB" for g in graphs])
    axes.set_xlabel("median data a task reads")
    axes.set_ylabel("realised cost, thousand USD")
    axes.set_yscale("log")
    axes.legend()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Write the page and its plots."""
    plan = RESULTS / "plan.json"
    if plan.exists():
        result = json.loads(plan.read_text(encoding="utf-8"))
        if "real_graph" in result:
            plot_real_graph(result, IMAGES / "placement-real-graph.svg")
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(PROJECT_ROOT))


if __name__ == "__main__":
    main()
