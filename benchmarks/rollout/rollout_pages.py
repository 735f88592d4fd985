"""Write the figures of docs/measurements/rollout.md: `python -m thalweg.benchmarks.rollout.rollout_pages`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from thalweg.conf.environment import PROJECT_ROOT, results_folder
from thalweg.federation.rollout_campaign import GOAL, HOUR_S, RolloutRecord, campaign_plan, summaries
from thalweg.learning.simulation.edge_fleet import FleetTerms

PAGE: Final = PROJECT_ROOT / "docs" / "measurements" / "rollout.md"
PICTURE: Final = PAGE.parent / "images" / "rollout-front.svg"
BEGIN: Final = "<!-- Written by `python -m thalweg.benchmarks.rollout.rollout_pages` from the record that it names. -->"
END: Final = "<!-- The rest is written by hand. -->"
HARMFUL: Final = ("accuracy", "drift", "latency")
_WIDE, _HIGH, _LEFT, _LOW = 760, 320, 60, 44
_COLOURS: Final = {"accuracy": "#0b5d6b", "drift": "#96600a", "latency": "#66727d"}


CAMPAIGN: Final = results_folder() / "rollout-sim.json"


def newest() -> Path:
    """Return the newest record of the front."""
    return max(results_folder().glob("rollout-2*.json"))


def measured(kept: RolloutRecord, front: Mapping[str, Any], name: str) -> str:
    """The measured part of the page.

    Args:
        kept: the campaign.
        front: the front.
        name: of its file.
    """
    harms, terms, machine = summaries(kept), FleetTerms(), kept.machine
    plan, none = campaign_plan(kept.soak_h, kept.share), harms["none"]
    return "\n".join(
        [
            f"`thalweg rollout-sim --seeds {kept.histories} --record benchmarks/results/rollout-sim.json`, "
            f"[record](../../benchmarks/results/rollout-sim.json), on {machine['cores']} cores "
            f"({machine['processor']}): {4 * kept.done:,} histories in {kept.running_seconds:.0f} s on one of them, "
            "with other work beside it.",
            "",
            "## No worse",
            "",
            f"{none['histories']:,} seeds in which the new version does what the last one did:",
            "",
            "| | measured | wanted |",
            "|---|---|---|",
            f"| taken back, though no worse | {none['rolled_back']} of {none['histories']:,} | at most 1 % |",
            f"| completed | {none['completed']:,} | |",
            f"| until every reachable edge has it, hours: median, longest | {none['decided_h_median']:.1f}, "
            f"{none['decided_h_max']:.1f} | |",
            f"| until every edge has it, hours after: median, longest | "
            f"{none['converged_h_after_median']:.1f}, {none['converged_h_after_max']:.1f} | every one that returns |",
            "",
            "## Harm",
            "",
            f"Answers wrong by {100 * terms.harm_points:g} points more at once, or growing to that within "
            f"{terms.drift_s / HOUR_S:g} hours on each edge, or latencies {terms.harm_latency:g} times as long. "
            "Shares are of all requests of all edges, from the beginning until everybody who can be reached is back.",
            "",
            "| | accuracy | drift | latency | wanted |",
            "|---|---|---|---|---|",
            *_harms(harms),
            "",
            "Taken back by what, and when: "
            + "; ".join(f"{harm}: {_counted(harms[harm]['rolled_back_by'])}" for harm in HARMFUL)
            + ".",
            "",
            "## What speed costs",
            "",
            f"`thalweg bench rollout --set seeds={front['seeds']} --record`, "
            f"[record](../../benchmarks/results/{name}), {front['seeds']} seeds each. First the least time of the "
            "first wave; the others' are a half, a quarter and an eighth of it. "
            f"Chosen: {plan.soak_s / HOUR_S:g} hours, share {plan.share:g}.",
            "",
            "![share of requests that met harm, by hours to everybody](images/rollout-front.svg)",
            "",
            f"| first wave, hours | {_POINT_TITLES}",
            f"{_LINE}---|",
            *(f"| {point['soak_h']:g} | {_point(point)}" for point in front["soak"]),
            "",
            "Share of an edge's requests that the new version answers in a wave:",
            "",
            f"| share | {_POINT_TITLES}",
            f"{_LINE}---|",
            *(f"| {point['share']:g} | {_point(point)}" for point in front["shares"]),
            "",
            "Drift that takes longer to grow to its full size:",
            "",
            "| hours | exposed, mean | most exposed | seeds above 2 % | taken back by | completed all the same |",
            _LINE,
            *(
                f"| {point['drift_h']:g} | {_percent(point['exposed_mean'])} | {_percent(point['exposed_max'])} | "
                f"{point['exposed_over_2_percent']} | {_counted(point['rolled_back_by'])} | {point['completed']} |"
                for point in front["drift"]
            ),
        ]
    )


_LINE: Final = "|---|---|---|---|---|---|"
_POINT_TITLES: Final = (
    "to everybody, hours | accuracy: most exposed | drift: most exposed | latency: most exposed | "
    "drift: completed all the same | taken back, though no worse |"
)


def _harms(harms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    def line(title: str, wanted: str, say: Any) -> str:
        return f"| {title} | {' | '.join(say(harms[harm]) for harm in HARMFUL)} | {wanted} |"

    return [
        line("histories", "", lambda one: f"{one['histories']:,}"),
        line("taken back", "all", lambda one: f"{one['rolled_back']:,}"),
        line("exposed, mean", "", lambda one: _percent(one["exposed_mean"])),
        line("exposed, 99 of 100 histories", "", lambda one: _percent(one["exposed_p99"])),
        line("exposed, most", "at most 2 %", lambda one: _percent(one["exposed_max"])),
        line("the same until the last edge is back", "", lambda one: _percent(one["exposed_until_all_are_back_max"])),
        line(
            "decided, hours: median, longest",
            "",
            lambda one: f"{one['decided_h_median']:.2f}, {one['decided_h_max']:.2f}",
        ),
        line("last edge back, hours after, longest", "", lambda one: f"{one['converged_h_after_max']:.1f}"),
        line("ended with every edge at the last good version", "all", lambda one: f"{one['converged']:,}"),
    ]


def _point(point: Mapping[str, Any]) -> str:
    exposed = " | ".join(_percent(point[f"{harm}_exposed_max"]) for harm in HARMFUL)
    return f"{point['full_h_median']:.1f} | {exposed} | {point['drift_completed']} | {point['false_roll_backs']} |"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def picture(points: Sequence[Mapping[str, Any]]) -> str:
    """Draw the most exposed history of each harm against the hours to everybody, a line for each harm."""
    until: float = max(point["full_h_median"] for point in points) * 1.05
    top: float = max(GOAL * 1.25, max(point[f"{harm}_exposed_max"] for point in points for harm in HARMFUL) * 1.1)

    def x(hours: float) -> float:
        return _LEFT + hours / until * (_WIDE - _LEFT - 20)

    def y(share: float) -> float:
        return _HIGH - _LOW - share / top * (_HIGH - _LOW - 30)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDE}" height="{_HIGH}" fill="#fff"/>',
    ]
    step = 0.005 if top < 0.03 else 0.02
    for number in range(int(top / step) + 1):
        at = y(number * step)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDE - 20}" y1="{at:.1f}" y2="{at:.1f}" stroke="#dfe4e8"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#5a6773">{100 * number * step:g} %</text>'
        )
    parts.append(
        f'<line x1="{_LEFT}" x2="{_WIDE - 20}" y1="{y(GOAL):.1f}" y2="{y(GOAL):.1f}" stroke="#a11" '
        'stroke-dasharray="6 4"/>'
    )
    for point in points:
        at = x(point["full_h_median"])
        parts.append(
            f'<text x="{at:.1f}" y="{_HIGH - _LOW + 18}" text-anchor="middle" fill="#5a6773">'
            f"{point['full_h_median']:.0f}</text>"
        )
    parts.append(f'<text x="{_WIDE - 20}" y="{_HIGH - 6}" text-anchor="end" fill="#5a6773">hours to everybody</text>')
    parts.append(f'<text x="{_LEFT}" y="14" fill="#5a6773">most exposed to</text>')
    for number, harm in enumerate(HARMFUL):
        places = [(x(point["full_h_median"]), y(point[f"{harm}_exposed_max"])) for point in points]
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{_COLOURS[harm]}" stroke-width="1.5"/>')
        parts += [
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{_COLOURS[harm]}"/>' for across, down in places
        ]
        parts.append(f'<text x="{_LEFT + 110 + 90 * number}" y="14" fill="{_COLOURS[harm]}">{harm}</text>')
    return "\n".join([*parts, "</svg>", ""])


def filled(page: str, block: str) -> str:
    """Put a block between the page's markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def main() -> int:
    """Write the page and its picture."""
    kept = msgspec.json.decode(CAMPAIGN.read_bytes(), type=RolloutRecord)
    front = json.loads(newest().read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, measured(kept, front, newest().name)), encoding="utf-8")
    PICTURE.write_text(picture(front["soak"]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
