"""The pages and pictures of the worked cases: python -m thalweg.benchmarks.placement.worked_pages writes them anew.

What a page says in figures stands between two markers and is written from the numbers; the words around it are written
by hand and say nothing that could become untrue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.benchmarks.placement import worked_cases as cases
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.replay.report import save

FOLDER: Final = PROJECT_ROOT / "docs" / "tutorial" / "examples"
BEGIN: Final = "<!-- Written by `python -m thalweg.benchmarks.placement.worked_pages`; change the case, not this. -->"
END: Final = "<!-- The rest is written by hand. -->"


def blocks(result: Mapping[str, Any]) -> dict[str, str]:
    """What each page says in figures, by page."""
    return {
        "data-on-nodes": _data_on_nodes(result["a"]),
        "three-cities": _three_cities(result["b"]),
        "what-to-rent": _what_to_rent(result["c"]),
        "work-on-nodes": _work_on_nodes(result["d"]),
    }


def filled(page: str, block: str) -> str:
    """Put a block between the page's markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def draw(result: Mapping[str, Any], folder: Path) -> None:
    """Draw one picture per case."""
    figure, axes = _figure()
    nodes = [
        f"node {i + 1}\n{gpus} GPUs, {tb:g} TB"
        for i, (gpus, tb) in enumerate(zip(cases.NODE_GPUS, cases.NODE_TB, strict=True))
    ]
    axes.bar(nodes, [100 * share for share in result["a"]["utilisation"]], color="#4c72b0")
    axes.set_ylabel("utilisation, %")
    save(figure, folder / "data-on-nodes.svg")

    figure, axes = _figure()
    labels = [
        f"t{i + 1}\n{cases.CITIES[origin]}\n→ {city}"
        for i, (origin, city) in enumerate(zip(cases.ORIGINS, result["b"]["city_of_task"], strict=True))
    ]
    axes.bar(labels, result["b"]["response_ms"], color="#55a868")
    axes.set_ylabel("response, ms")
    axes.tick_params(axis="x", labelsize=7)
    save(figure, folder / "three-cities.svg")

    figure, axes = _figure()
    rows = result["c"]["combinations"]
    places = range(len(rows))
    colours = ["#c44e52" if row["nodes"] == result["c"]["rented"] else "#4c72b0" for row in rows]
    axes.bar([x - 0.2 for x in places], [row["served_per_usd"] for row in rows], 0.4, color=colours, label="served")
    axes.bar(
        [x + 0.2 for x in places], [row["capacity_per_usd"] for row in rows], 0.4, color="#c8c8c8", label="capacity"
    )
    axes.set_xticks(list(places), [row["nodes"].replace(" + ", "\n+ ") for row in rows], fontsize=7)
    axes.set_ylabel("tasks an hour per USD an hour")
    axes.legend(fontsize=7)
    save(figure, folder / "what-to-rent.svg")

    figure, axes = _figure()
    for name, colour in zip(cases.STRATEGIES, ("#55a868", "#4c72b0", "#c44e52"), strict=True):
        steps, usd, bound = zip(*result["d"][name]["trace"], strict=True)
        axes.step(steps, usd, where="post", color=colour, label=name)
        if name == "lp":
            axes.step(
                steps, bound, where="post", color=colour, linestyle="--", linewidth=0.8, label="bound of lp so far"
            )
    axes.axhline(result["d"]["lp"]["bound"], color="black", linestyle=":", label="bound")
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlabel("step: a linear program, a generation, a sweep")
    axes.set_ylabel("objective")
    axes.legend(fontsize=7)
    save(figure, folder / "work-on-nodes.svg")


def _data_on_nodes(found: Mapping[str, Any]) -> str:
    total_tb = sum(cases.NODE_TB)
    rows = [
        (
            number + 1,
            gpus,
            tb,
            f"{2 * cases.USD_PER_GPU + cases.USD_PER_TB * (total_tb - tb):.2f}",
            f"{used / 2:.0f}",
            f"{100 * share:.0f} %",
        )
        for number, (gpus, tb, used, share) in enumerate(
            zip(cases.NODE_GPUS, cases.NODE_TB, found["used_gpus"], found["utilisation"], strict=True)
        )
    ]
    head = ("node", "GPUs", "TB held", "cost of a subtask here, USD", "subtasks", "utilisation u = used / capacity")
    return _table(head, rows) + (
        f"\n\nTotal {found['cost_usd']:.2f} USD; no plan costs less than {found['bound_usd']:.2f} USD, the bound."
    )


def _three_cities(found: Mapping[str, Any]) -> str:
    rows = [
        (f"t{number + 1}", cases.CITIES[origin], city, f"{response:.0f}")
        for number, (origin, city, response) in enumerate(
            zip(cases.ORIGINS, found["city_of_task"], found["response_ms"], strict=True)
        )
    ]
    return _table(("task", "from", "placed in", "response, ms"), rows) + (
        f"\n\nTotal round trip {found['total_rtt_ms']:.0f} ms (bound {found['bound_ms']:.0f} ms), "
        f"mean response {found['mean_response_ms']:.0f} ms."
    )


def _what_to_rent(found: Mapping[str, Any]) -> str:
    head = (
        "nodes", "tasks/h", "GB", "GB/s", "USD/h", "served/h", "served per USD", "capacity per USD", "GB per USD",
        "MB/s per USD",
    )  # fmt: skip
    rows = [
        (
            f"**{row['nodes']}**" if row["nodes"] == found["rented"] else row["nodes"],
            row["tasks_per_hour"],
            f"{row['storage_gb']:,}",
            row["gb_per_s"],
            f"{row['usd_per_hour']:,}",
            row["served_per_hour"],
            f"{row['served_per_usd']:.4f}",
            f"{row['capacity_per_usd']:.4f}",
            f"{row['gb_per_usd']:.3f}",
            f"{row['mb_per_s_per_usd']:.2f}",
        )
        for row in found["combinations"]
    ]
    return _table(head, rows) + f"\n\nRented: {found['rented']}, for {found['usd_per_hour']:,} USD an hour."


def _work_on_nodes(found: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{name}`",
            f"{found[name]['objective']:.4f}",
            f"{found[name]['bound']:.4f}",
            cases.steps_to_best(found[name]),
            ", ".join(str(count) for count in found[name]["tasks_per_node"]),
        )
        for name in cases.STRATEGIES
    ]
    return _table(("strategy", "objective", "bound", "steps until there", "tasks on nodes 1, 2, 3"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    return figure, figure.subplots()


def main() -> None:
    """Write the pages and draw the pictures."""
    result = cases.numbers()
    for name, block in blocks(result).items():
        path = FOLDER / f"{name}.md"
        path.write_text(filled(path.read_text(encoding="utf-8"), block), encoding="utf-8")
    draw(result, FOLDER)


if __name__ == "__main__":
    main()
