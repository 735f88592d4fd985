"""Write docs/measurements/packing.md and its plots: `python -m thalweg.benchmarks.packing.pack_pages`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any, Final

import matplotlib

from thalweg.benchmarks.packing.pack import LARGE, MADE_UP, RESULT
from thalweg.benchmarks.placement.replan import STANDING
from thalweg.conf.environment import PROJECT_ROOT

matplotlib.use("svg")

PAGE: Final = PROJECT_ROOT / "docs" / "measurements" / "packing.md"
IMAGES: Final = PAGE.parent / "images"
SCALE_RESULT: Final = RESULT.parent / "scale.json"
BEGIN: Final = "<!-- measured: written by `python -m thalweg.benchmarks.packing.pack_pages` -->"
END: Final = "<!-- end of measured -->"
# The published means of the other policies of the FGD paper on the same lists, at 130 % arrived.
PUBLISHED: Final = {
    "Random": {"default": 87.47, "cpu100": 89.11, "gpushare40": 86.00, "gpuspec10": 87.43, "multigpu20": 88.69},
    "DotProd": {"default": 90.85, "cpu100": 91.95, "gpushare40": 89.56, "gpuspec10": 90.39, "multigpu20": 92.06},
    "Clustering": {"default": 91.88, "cpu100": 92.64, "gpushare40": 90.02, "gpuspec10": 92.18, "multigpu20": 93.56},
    "Packing": {"default": 92.00, "cpu100": 92.72, "gpushare40": 90.03, "gpuspec10": 92.46, "multigpu20": 93.71},
    "BestFit": {"default": 93.08, "cpu100": 93.44, "gpushare40": 91.69, "gpuspec10": 93.30, "multigpu20": 93.93},
}


def measured(result: dict[str, Any], scale: dict[str, Any] | None) -> str:
    """The tables, from the results."""
    parts = result["parts"]
    lists = {name: part for name, part in parts.items() if name not in (MADE_UP, LARGE)}
    sections = [_allocation(result, lists), _ceilings(lists), _joint(lists)]
    if MADE_UP in parts:
        sections.append(_made_up(parts[MADE_UP]))
    sections.append(_speed(lists, parts.get(LARGE)))
    if scale is not None:
        sections.append(_scale(scale))
    return "\n\n".join("\n".join(section) for section in sections)


def page(before: str, result: dict[str, Any], scale: dict[str, Any] | None) -> str:
    """The page with its measured part replaced."""
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{measured(result, scale)}\n\n{END}{tail}"


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['processor']}, Python {machine['python']}"


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 120)


def _pair(figures: dict[str, float]) -> str:
    return f"{figures['allocation_percent']:.2f} ({figures['allocation_at_100_percent']:.2f})"


def _allocation(result: dict[str, Any], lists: dict[str, Any]) -> list[str]:
    lines = [
        "## Measured on openb (`thalweg bench pack`)",
        "",
        *_paragraph(
            f"""
            1,213 nodes, 6,212 GPUs; arrivals to 130 % of the GPUs, arrival order, one try, no moves; mean of seeds
            42-51, in percent of the GPUs (at 100 % arrived in brackets), and refused pods. FGD twice: as published,
            and re-implemented here and run on the same arrivals. Machine: {_machine(result)}.
            """
        ),
        "",
        "| list | FGD published | FGD here | refused | expected fill | refused | idle GPUs against FGD here |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in lists.items():
        published = part.get("published_fgd")
        lines.append(
            f"| {name} | {_pair(published) if published else 'none'} | {_pair(part['fgd'])} "
            f"| {part['fgd']['failed_pods']:,.0f} | **{_pair(part['fill'])}** | **{part['fill']['failed_pods']:,.0f}** "
            f"| {part['unallocated_gpus_ratio_to_fgd'] - 1:+.0%} |"
        )
    return [*lines, "", "![Allocation by list and policy](images/packing-allocation.svg)"]


def _ceilings(lists: dict[str, Any]) -> list[str]:
    keys = list(next(iter(lists.values()))["ceiling_percent"])
    titles = {key: f"until {key.rpartition('_')[2]} %" for key in keys if key.startswith("nothing")}
    lines = [
        "## The ceiling",
        "",
        *_paragraph(
            """
            Upper bounds on any packing of the same arrivals, in percent of the GPUs (a linear program over all
            patterns of shares on a GPU; no CPU, no nodes, fractions allowed; mean of seeds 42-51). *Same shares*: of
            any packing that ends with the shares that expected fill accepted. *Until N %*: of any packing, whatever
            it does, with or without moves, that refuses no share of a GPU before N % of the GPUs have arrived.
            """
        ),
        "",
        f"| list | expected fill | same shares | {' | '.join(titles.values())} | expected fill first refuses a share |",
        f"|---|---|---|{'---|' * len(titles)}---|",
    ]
    for name, part in lists.items():
        ceiling = part["ceiling_percent"]
        bounds = " | ".join(f"{ceiling[key]:.2f}" for key in titles)
        lines.append(
            f"| {name} | {part['fill']['allocation_percent']:.2f} "
            f"| {ceiling['same_shares_accepted']:.2f} | {bounds} "
            f"| at {part['fill']['arrived_percent_at_first_refused_share']:.1f} % arrived |"
        )
    return [*lines, "", "![Allocation and ceiling](images/packing-ceiling.svg)"]


def _joint(lists: dict[str, Any]) -> list[str]:
    batches = [key for key in next(iter(lists.values())) if key.startswith("batch_")]
    lines = [
        "## Micro-batches and moves",
        "",
        *_paragraph(
            """
            Mean of seeds 42-44: one by one, jointly, and in batches of 64 with at most 1 % of the running moved.
            Refused pods in brackets.
            """
        ),
        "",
        f"| list | one by one | {' | '.join(key.replace('_', ' ') for key in batches)} | 64 and moves | moved pods |",
        f"|---|---|{'---|' * len(batches)}---|---|",
    ]

    def cell(figures: dict[str, float]) -> str:
        return f"{figures['allocation_percent']:.2f} ({figures['failed_pods']:,.0f})"

    for name, part in lists.items():
        joint = " | ".join(cell(part[key]) for key in batches)
        lines.append(
            f"| {name} | {cell(part['fill_of_few_seeds'])} | {joint} | {cell(part['moves'])} "
            f"| {part['moves']['moved_pods']:.1f} |"
        )
    return lines


def _made_up(part: dict[str, Any]) -> list[str]:
    lines = [
        "## Lists that nobody tuned for",
        "",
        "Made from the public lists (`benchmarks/packing/pack_lists.py`), seeds 42-44.",
        "",
        "| made-up list | FGD here | refused | expected fill | refused |",
        "|---|---|---|---|---|",
    ]
    for name, figures in part.items():
        if isinstance(figures, dict):
            fgd, fill = figures["fgd"], figures["fill"]
            lines.append(
                f"| {name} | {_pair(fgd)} | {fgd['failed_pods']:,.0f} | {_pair(fill)} | {fill['failed_pods']:,.0f} |"
            )
    return lines


def _speed(lists: dict[str, Any], large: dict[str, Any] | None) -> list[str]:
    lines = [
        "## Speed",
        "",
        "Placements a second in one thread, each run from an empty cluster and an empty memory; refused ones count.",
        "",
        "| list | expected fill | batch 64 | FGD here |",
        "|---|---|---|---|",
    ]
    for name, part in lists.items():
        speeds = " | ".join(f"{part[way]['placements_per_second']:,.0f}" for way in ("fill", "batch_64", "fgd"))
        lines.append(f"| {name} | {speeds} |")
    if large is not None:
        lines += [
            "",
            *_paragraph(
                f"""
                {large["nodes"]:,} nodes with {large["gpus"]:,} GPUs, list default: {large["placements"]:,} placements
                until 100 % have arrived, {large["placements_per_second"]:,.0f} a second. Full, one worker leaving and
                the next placed: {large["single_placements_per_second"]:,.0f} a second, p50
                {large["single_placement_ms_p50"]:.2f} ms, p99 {large["single_placement_ms_p99"]:.2f} ms.
                """
            ),
        ]
    return lines


def _scale(result: dict[str, Any]) -> list[str]:
    size, fill = result["parameters"], result["first_fill"]
    lines = [
        "## At scale (`thalweg bench scale`)",
        "",
        *_paragraph(
            f"""
            {size["regions"]} regions, {size["pools"]:,} pools, {size["nodes"]:,} nodes of 8 GPUs,
            {result["running_tasks"]:,} running tasks in {size["classes"]:,} classes
            ({result["allocated_gpus_percent"]:.1f} % of the GPUs). A cycle: 1 % of the tasks end and as many arrive,
            0.1 % of the nodes are lost and come back a cycle later, everything is planned anew, and what changed is
            packed in its region. One process; machine: {_machine(result)}.
            """
        ),
        "",
        *_paragraph(f"Planned anew is `replan`. {STANDING}"),
        "",
        "| cycle | fold | plan | pack | all | tasks packed | of these moved | no room on a node |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for at, one in enumerate(result["cycles"], 1):
        lines.append(
            f"| {at} | {one['fold_seconds']:.2f} s | {one['plan_seconds']:.2f} s | {one['pack_seconds']:.2f} s "
            f"| **{one['cycle_seconds']:.2f} s** | {one['packed_tasks']:,} | {one['moved_tasks']:,} "
            f"| {one['tasks_without_room_on_nodes']:,} |"
        )
    lines += [
        "",
        *_paragraph(
            f"""
            Peak memory {result["peak_memory_gb"]:.1f} GB; broken limits {result["violations"]}. Filling the empty
            world: plan {fill["plan_seconds"]:.1f} s, pack {fill["pack_seconds"]:.1f} s for {fill["packed_tasks"]:,}
            tasks.
            """
        ),
    ]
    if spark := result.get("spark"):
        ratio = spark["spark_seconds"] / spark["one_process_seconds"]
        lines += [
            "",
            *_paragraph(
                f"""
                The {spark["requests"]:,} placements of one more cycle in {spark["regions"]} regions, three ways, with
                {"the same" if spark["same_slots"] else "DIFFERENT"} slots:
                """
            ),
            "",
            "| way | seconds |",
            "|---|---|",
            f"| by the packer that packed these nodes before | {spark['one_process_that_packed_before_seconds']:.2f} |",
            f"| afresh, region after region in one process | {spark['one_process_seconds']:.2f} |",
            f"| afresh, a Spark task per region, on the same cores | {spark['spark_seconds']:.2f} |",
            "",
            *_paragraph(
                f"""
                On {result["machine"]["cores"]} cores Spark tasks take {ratio:.1f} times as long as one process: the
                nodes' columns are sent to them, and the driver works beside them.
                """
            ),
        ]
    return lines


def draw(result: dict[str, Any]) -> None:
    """Draw the plots into docs/measurements/images."""
    from matplotlib import pyplot

    # The same bytes for the same figures: no date, no random ids.
    matplotlib.rcParams["svg.hashsalt"] = "thalweg"
    lists = {name: part for name, part in result["parts"].items() if name not in (MADE_UP, LARGE)}
    names = [name for name in lists if name in PUBLISHED["Random"]]
    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    ways = {policy: [figures[name] for name in names] for policy, figures in PUBLISHED.items()}
    ways["FGD published"] = [lists[name]["published_fgd"]["allocation_percent"] for name in names]
    ways["FGD here"] = [lists[name]["fgd"]["allocation_percent"] for name in names]
    ways["expected fill"] = [lists[name]["fill"]["allocation_percent"] for name in names]
    width = 0.8 / len(ways)
    for at, (way, values) in enumerate(ways.items()):
        places = [place + (at - len(ways) / 2 + 0.5) * width for place in range(len(names))]
        colour = (
            f"{0.85 - 0.08 * at:.2f}" if at < len(PUBLISHED) else ("#9ecae1", "#4292c6", "#d94801")[at - len(PUBLISHED)]
        )
        axes.bar(places, values, width, label=way, color=colour)
    axes.set_ylim(85, 98)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("GPUs allocated at 130 % arrived, %")
    axes.legend(ncols=4, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.08))
    figure.savefig(IMAGES / "packing-allocation.svg", metadata={"Date": None})
    pyplot.close(figure)

    figure, axes = pyplot.subplots(figsize=(9, 3.5), layout="constrained")
    for at, name in enumerate(lists):
        part = lists[name]
        bounds = [value for key, value in part["ceiling_percent"].items() if key.startswith("nothing")]
        axes.plot(
            [at, at],
            [min(bounds), max(bounds)],
            color="0.6",
            linewidth=6,
            label="" if at else "ceilings, refusing from 96 to 90 %",
        )
        axes.plot(
            at,
            part["ceiling_percent"]["same_shares_accepted"],
            "k_",
            markersize=24,
            label="" if at else "ceiling, same shares",
        )
        axes.plot(at, part["fill"]["allocation_percent"], "o", color="#d94801", label="" if at else "expected fill")
        axes.plot(at, part["fgd"]["allocation_percent"], "s", color="#4292c6", label="" if at else "FGD here")
    axes.set_xticks(range(len(lists)), list(lists))
    axes.set_ylabel("GPUs allocated, %")
    axes.legend(fontsize="small", loc="lower center", ncols=4, bbox_to_anchor=(0.5, 1.0))
    figure.savefig(IMAGES / "packing-ceiling.svg", metadata={"Date": None})
    pyplot.close(figure)


def read(path: Path) -> dict[str, Any] | None:
    """Read a result, None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def main() -> None:
    """Write the page and the plots."""
    result = read(RESULT)
    if result is None:
        raise SystemExit(f"no {RESULT.name}; measure first: python -m thalweg.benchmarks.packing.pack")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), result, read(SCALE_RESULT)), encoding="utf-8")
    draw(result)


if __name__ == "__main__":
    main()
