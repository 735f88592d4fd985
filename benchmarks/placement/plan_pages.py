"""Write docs/measurements/placement.md and plots: `python -m thalweg.benchmarks.placement.plan_pages`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

from thalweg.benchmarks.placement.plan import RESULTS
from thalweg.benchmarks.placement.replan import STANDING
from thalweg.conf.environment import PROJECT_ROOT

matplotlib.use("svg")

PAGE = PROJECT_ROOT / "docs" / "measurements" / "placement.md"
IMAGES = PAGE.parent / "images"


def page() -> str:
    """The page, from whatever results there are."""
    parts = [
        "# Placement: measurements",
        "",
        "Written by `python -m thalweg.benchmarks.placement.plan_pages` from `benchmarks/results/`. How a plan is "
        "made: [the placement engine](../explanation/placement.md).",
        "",
    ]
    sections = {
        "plan": _plan,
        "live_gap": _live_gap,
        "explain": _explain,
        "look": _look,
        "replan": _replan,
        "plan_proof": _proof,
    }
    for name, section in sections.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts += section(json.loads(path.read_text(encoding="utf-8")))
    return "\n".join(parts).rstrip() + "\n"


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    load = f", load average {result['load_average']} at the start" if "load_average" in result else ""
    by_part = result.get("load_average_by_part", {})
    if by_part:
        load = f", load average {min(by_part.values())} to {max(by_part.values())} at the start of the parts"
    return (
        f"Machine: {machine['cores']} cores, {machine['memory_gb']} GB, {machine['processor']}, Python "
        f"{machine['python']}, OR-Tools {machine['packages']['ortools']}{load}."
    )


def _plan(result: dict[str, Any]) -> list[str]:
    lines = ["## Cost on the real graph of 62 regions (`thalweg bench plan`)", "", _machine(result), ""]
    graphs = result.get("real_graph", []) + result.get("real_graph_by_data", [])
    if graphs:
        lines += [*_REAL_GRAPH, ""]
        lines += [
            "| seed | median data a task | flow, USD | gap | CPU s | below rule, in turn | below rule, planned "
            "| below price alone, in turn | below price alone, planned |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {g['seed']} | {g['median_gb']:g} GB | {g['flow_usd']:,.0f} | {g['flow_gap']:.2%} "
            f"| {g['flow_cpu_seconds']} | {g['rule_in_turn_saved_percent']:.1f} % "
            f"| {g['rule_planned_saved_percent']:.1f} % | {g['price_alone_in_turn_saved_percent']:.1f} % "
            f"| {g['price_alone_planned_saved_percent']:.1f} % |"
            for g in graphs
        ]
        lines += ["", "![cost by rule](images/placement-real-graph.svg)", ""]
    if "built" in result:
        built = result["built"]
        lines += [
            "## Building a problem",
            "",
            f"The columns of {built['tasks']:,} tasks in 5,000 classes over 600 pools: {built['tasks_seconds']} s; of "
            f"{built['nodes']:,} nodes: {built['nodes_seconds']} s.",
            "",
        ]
    million = result["million_tasks"]
    each = million["cold_seconds_of_each"]
    lines += [
        "## A million tasks",
        "",
        f"{million['tasks']:,} tasks in {million['classes']:,} classes over {million['pools']} pools: cold "
        f"{million['cold_seconds']} s (median of {len(each)}, {each[0]} to {each[-1]} s), with the "
        f"prices of the plan before {million['warm_seconds']} s; gap {million['gap']:.3%}, "
        f"{million['waiting']} waiting.",
        "",
    ]
    if "balanced_million" in result:
        balanced = result["balanced_million"]
        lines += [
            f"The same with a load-balance weight of {balanced['balance_weight']:g} USD: {balanced['cold_seconds']} s "
            f"cold ({balanced['cold_cpu_seconds']} s of processor time), gap {balanced['gap']:.3%}. A solve with the "
            "convex pieces takes several times the pivots of one without; pieces are therefore refined on samples of "
            "the classes first ([decision](../decisions/0037-balance-on-samples-first.md)).",
            "",
        ]
    batch = result["micro_batch"]
    lines += [
        "## A live micro-batch",
        "",
        f"{batch['classes']} classes over {batch['pools']} pools, the solver alone with live limits and the prices of "
        "the batch before (the place job hands on no prices yet, and packs onto nodes as well): "
        f"roomy p50 {batch['roomy_p50_ms']} ms, p99 {batch['roomy_p99_ms']} ms; contended "
        f"p50 {batch['contended_p50_ms']} ms, p99 {batch['contended_p99_ms']} ms (processor time p50 "
        f"{batch['roomy_cpu_p50_ms']} and {batch['contended_cpu_p50_ms']} ms).",
        "",
    ]
    if "strategies" in result:
        lines += [*_strategies(result["strategies"]), ""]
    if "convergence" in result:
        lines += [*_CONVERGENCE, ""]
    return lines


_REAL_GRAPH = (
    "Every plan is paid at the real egress prices and measured bandwidths. Who is compared with:",
    "",
    "- *rule*: egress free inside a cloud (listed between clouds), 10 Gbit/s everywhere; *price alone*: the GPU price "
    "and nothing else;",
    "- *in turn*: each task in turn takes the cheapest place with room by those beliefs, which is what a rule does; "
    "*planned*: the same beliefs, planned jointly by our own `flow`, which nobody who follows a rule does.",
    "",
    "The target of 15 % is held against *rule, in turn* ([why](../decisions/0035-what-the-rule-is.md)). *Rule, "
    "planned* is what knowing the real network is worth to somebody who already plans as well as this: a few per cent, "
    "because listed egress already keeps tasks near their data.",
)

_CONVERGENCE = (
    "### Convergence",
    "",
    "40 classes over 15 pools with a load-balance weight of 100 USD. `Solution.trace` holds (step, best objective, "
    "best bound): a step is a linear program (`lp`), a generation (`genetic`) or a temperature (`anneal`). `lp` "
    "raises its own bound, the others start from that of `flow`.",
    "",
    "![objective by step against the bound](images/placement-convergence.svg)",
)


def _strategies(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "## The strategies side by side",
        "",
        "Default effort, no deadline. A task that waits costs 1,000,000 USD. `lp` proves its own bound, the others "
        "that of `flow` before its integer program.",
        "",
        "| problem | strategy | USD | gap | waiting | CPU s | stopped |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['problem']} ({r['classes']} by {r['pools']}, {r['tasks']:,} tasks) | {r['strategy']} "
            f"| {r['objective_usd']:,.0f} | {r['gap']:.2%} | {r['waiting']} "
            f"| {r['cpu_seconds']:.2f} | {r['stopped_because']} |"
            for r in rows
        ),
    ]


def _live_gap(result: dict[str, Any]) -> list[str]:
    return [
        "## Gaps of small live plans (`python -m thalweg.benchmarks.placement.live_gap`)",
        "",
        _machine(result),
        "",
        f"{result['worlds']:,} random worlds of 6 to 12 regions and 10 to 40 pools, nodes of 8 GPUs partly taken, "
        f"gangs of up to 16 GPUs, 0.5 to 1.3 times the free GPUs asked for; in {result['worlds_with_waiting_percent']} "
        f"% something must wait. The gap is that of the whole live plan, packed onto nodes: at most 1 % in "
        f"{result['gap_up_to_1_percent_of_worlds_percent']} % of the worlds, mean {result['gap_mean']:.3%}, p99 "
        f"{result['gap_p99']:.3%}, worst {result['gap_worst']:.3%}. Processor time of a plan with a packer that starts "
        f"cold: p50 {result['cpu_ms_p50']} ms, p90 {result['cpu_ms_p90']} ms, p99 {result['cpu_ms_p99']} ms. What "
        "makes the gaps small: [decision](../decisions/0036-what-nodes-hold-together.md).",
        "",
    ]


def _explain(result: dict[str, Any]) -> list[str]:
    return [
        "## Why a task waits (`thalweg bench explain`)",
        "",
        _machine(result),
        "",
        f"{result['running_tasks']:,} tasks running on {result['nodes']:,} nodes, {result['waiting_tasks']:,} waiting: "
        f"why one waits and what would let it in is answered in {result['wait_p50_ms']:.0f} ms at the median, "
        f"{result['wait_p99_ms']:.0f} ms at the 99th percentile; what else a placed task could have, in "
        f"{result['placed_p50_ms']:.0f} ms and at most {result['placed_max_ms']:.0f} ms.",
        "",
    ]


def _look(result: dict[str, Any]) -> list[str]:
    beside, gang = result["beside"], result["gang"]
    lines = [
        "## Looking again at what runs (`python -m thalweg.benchmarks.placement.look`, part of `bench replan`)",
        "",
        f"{_machine(result)} The load average at the end was {result['load_average_at_the_end']}: the machine was "
        "shared, so times by the clock are upper ends, and times by the processor are beside them.",
        "",
        f"{result['running']:,} tasks of {result['classes']:,} classes run on {result['nodes']:,} nodes in "
        f"{result['pools']} pools, {result['gpus_used_percent']} % of the GPUs, where a cold optimum has put them. "
        "Then the price of one region falls by 30 %. *Above cold*: an hour of what runs, against placing all of it "
        "anew at the new prices, which would lose nothing.",
        "",
        "| most moved | look | copy, ms | look, ms | of the processor, ms | proof in a batch at worst, ms of the "
        "processor | moved | above cold, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for most in (32, 1_500):
        part = result[f"most_moved_{most}"]
        lines.append(f"| {most:,} | before | | | | | | {part['above_cold_before_percent']} |")
        for number, one in enumerate(part["cycles"], 1):
            lines.append(
                f"| {most:,} | {number} | {one['copy_ms']} | {one['look_ms']} | {one['look_cpu_ms']} "
                f"| {one['proof_cpu_ms_a_batch_worst']} | {one['moved']} | {one['above_cold_percent']} |"
            )
    return [
        *lines,
        "",
        f"A look, 99th percentile: {result['look_ms_p99']} ms by the clock, {result['look_cpu_ms_p99']} ms of the "
        f"processor. Micro-batches of {beside['requests_a_batch']} requests on a real ledger, in blocks of "
        f"{beside['block_seconds']:.0f} s by turns: p50 {beside['without_a_look_p50_ms']} and p99 "
        f"{beside['without_a_look_p99_ms']} ms without a look ({beside['without_a_look_batches']} batches), p50 "
        f"{beside['with_a_look_p50_ms']} and p99 {beside['with_a_look_p99_ms']} ms with one in each block "
        f"({beside['with_a_look_batches']}): {beside['p99_slower_percent']:+} %.",
        "",
        f"A gang of {gang['gang_gpus']} GPUs that waits where each of {gang['nodes']} nodes holds one to three "
        f"fragments {'sits' if gang['seated'] else 'does not sit'} after {gang['looks']} look, with "
        f"{gang['moved_each_with_a_new_home']} moves, each to a place that was proved.",
        "",
    ]


def _replan(result: dict[str, Any]) -> list[str]:
    lines = ["## Planning again after 1 % change (`thalweg bench replan`)", "", _machine(result), "", STANDING, ""]
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
        (
            ("flow_usd", "flow"),
            ("rule_planned_usd", "rule, planned"),
            ("rule_in_turn_usd", "rule, in turn"),
            ("price_alone_planned_usd", "price alone, planned"),
            ("price_alone_in_turn_usd", "price alone, in turn"),
        )
    ):
        axes.bar([i + 0.17 * offset for i in range(len(graphs))], [g[key] / 1e3 for g in graphs], 0.16, label=label)
    axes.set_xticks([i + 0.34 for i in range(len(graphs))], [f"{g['median_gb']:g} GB" for g in graphs])
    axes.set_xlabel("median data a task reads")
    axes.set_ylabel("realised cost, thousand USD")
    axes.set_yscale("log")
    axes.legend()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def plot_convergence(result: dict[str, Any], path: Path) -> None:
    """Best objective and bound by step, a panel a strategy."""
    from matplotlib.figure import Figure

    traces = result["traces"]
    figure = Figure(figsize=(8, 3), layout="constrained")
    panels = figure.subplots(1, len(traces), sharey=True)
    for axes, (name, trace) in zip(panels, traces.items(), strict=True):
        steps, usd, bounds = zip(*trace, strict=True)
        axes.plot(steps, usd, label="best plan")
        axes.plot(steps, bounds, label="bound")
        axes.axhline(result["flow_usd"], color="grey", linewidth=0.8, linestyle=":", label="flow")
        axes.set_title(name)
        axes.set_xlabel("step")
        # The first plans of some leave tasks waiting at a million each; what is of interest is below.
        axes.set_ylim(0, 2 * result["flow_usd"])
    panels[0].set_ylabel("USD")
    panels[0].legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Write the page and its plots."""
    plan = RESULTS / "plan.json"
    if plan.exists():
        result = json.loads(plan.read_text(encoding="utf-8"))
        if "real_graph" in result:
            plot_real_graph(result, IMAGES / "placement-real-graph.svg")
        if "convergence" in result:
            plot_convergence(result["convergence"], IMAGES / "placement-convergence.svg")
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(PROJECT_ROOT))


if __name__ == "__main__":
    main()
