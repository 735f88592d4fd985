"""Write the figures of docs/measurements/response-time.md: `python -m thalweg.benchmarks.response.response_pages`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from thalweg.conf.environment import PROJECT_ROOT, results_folder

PAGE: Final = PROJECT_ROOT / "docs" / "measurements" / "response-time.md"
PICTURE: Final = PAGE.parent / "images" / "response-time.svg"
BEGIN: Final = (
    "<!-- Written by `python -m thalweg.benchmarks.response.response_pages` from the record that it names. -->"
)
END: Final = "<!-- The rest is written by hand. -->"
QUEUES: Final = (1, 2, 4, 6)
"""Of the table and the picture."""
_WIDE, _HIGH, _LEFT, _LOW = 760, 340, 60, 44
_COLOURS: Final = ("#0b5d6b", "#96600a", "#66727d", "#7a2e5d")


def newest() -> Path:
    """Return the newest record."""
    return max(results_folder().glob("response-2*.json"))


def measured(result: Mapping[str, Any], name: str) -> str:
    """The measured part of the page."""
    given, machine = result["parameters"], result["machine"]
    cells = {(row["distance_ms"], row["queue"]): row for row in result["by_distance_and_queue"]}
    distances = sorted({distance for distance, _ in cells})
    return "\n".join(
        [
            f"`thalweg bench response --record`, [record](../../benchmarks/results/{name}), on "
            f"{machine['cores']} cores ({machine['processor']}), load average {result['load_average']}: "
            f"{result['requests']:,} requests, "
            f"{given['service_ms']:g} ms each at the server, which is to be busy {100 * given['busy']:g} % of the "
            f"time; the longest queue had {result['longest_queue']}.",
            "",
            "| model | alpha | beta, ms | rest, ms | share of the variance | |",
            "|---|---|---|---|---|---|",
            f"| the larger of alpha d and beta b | {result['alpha']:.3f} | {result['beta_ms']:.1f} | | "
            f"{result['bound_r2']:.3f} | the larger bound is {100 * result['bound_of_response_median']:.0f} % of the "
            f"response time in the median, {100 * result['bound_of_response_least']:.0f} % at least |",
            f"| alpha d + beta b + rest | {result['sum_alpha']:.3f} | {result['sum_beta_ms']:.1f} | "
            f"{result['sum_rest_ms']:.1f} | {result['sum_r2']:.4f} | 95 of 100 are within "
            f"{result['sum_error_p95_ms']:.1f} ms |",
            "",
            "![response times by distance, for several queues](images/response-time.svg)",
            "",
            "Mean response times, ms (requests), by round trip and by the requests at the server, one's own included:",
            "",
            "| d, ms | " + " | ".join(f"b = {queue}" for queue in QUEUES) + " |",
            "|---|" + "---|" * len(QUEUES),
            *(
                f"| {distance:g} | " + " | ".join(_cell(cells.get((distance, queue))) for queue in QUEUES) + " |"
                for distance in distances
            ),
        ]
    )


def _cell(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['response_ms']:.0f} ({row['requests']})"


def picture(result: Mapping[str, Any]) -> str:
    """Draw mean response times against distance, a colour for each queue: dots measured, lines sums, dashes bounds."""
    rows = [row for row in result["by_distance_and_queue"] if row["queue"] in QUEUES]
    until: float = max(row["distance_ms"] for row in rows)
    top: float = max(row["response_ms"] for row in rows) * 1.05

    def x(distance: float) -> float:
        return _LEFT + distance / until * (_WIDE - _LEFT - 30)

    def y(response: float) -> float:
        return _HIGH - _LOW - response / top * (_HIGH - _LOW - 30)

    def line(say: Any, style: str) -> str:
        points = " ".join(f"{x(d):.1f},{y(say(d)):.1f}" for d in range(0, int(until) + 1, 4))
        return f'<polyline points="{points}" fill="none" {style}/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDE}" height="{_HIGH}" fill="#fff"/>',
    ]
    for mark in range(0, int(top) + 1, 100):
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDE - 30}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" stroke="#dfe4e8"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(mark) + 4:.1f}" text-anchor="end" fill="#5a6773">{mark}</text>')
    for mark in sorted({row["distance_ms"] for row in rows}):
        parts.append(
            f'<text x="{x(mark):.1f}" y="{_HIGH - _LOW + 18}" text-anchor="middle" fill="#5a6773">{mark:g}</text>'
        )
    parts.append(f'<text x="{_WIDE - 30}" y="{_HIGH - 6}" text-anchor="end" fill="#5a6773">round trip, ms</text>')
    parts.append(f'<text x="{_LEFT}" y="14" fill="#5a6773">response, ms</text>')
    for number, queue in enumerate(QUEUES):
        colour = _COLOURS[number]
        by_sum = result["sum_beta_ms"] * queue + result["sum_rest_ms"]
        parts.append(line(lambda d, own=by_sum: result["sum_alpha"] * d + own, f'stroke="{colour}" stroke-width="1.5"'))
        bound = result["beta_ms"] * queue
        parts.append(
            line(lambda d, own=bound: max(result["alpha"] * d, own), f'stroke="{colour}" stroke-dasharray="4 4"')
        )
        parts += [
            f'<circle cx="{x(row["distance_ms"]):.1f}" cy="{y(row["response_ms"]):.1f}" r="3.5" fill="{colour}"/>'
            for row in rows
            if row["queue"] == queue
        ]
        parts.append(f'<text x="{_LEFT + 110 + 70 * number}" y="14" fill="{colour}">b = {queue}</text>')
    return "\n".join([*parts, "</svg>", ""])


def filled(page: str, block: str) -> str:
    """Put a block between the page's markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def main() -> int:
    """Write the page and its picture."""
    result = json.loads(newest().read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), measured(result, newest().name)), encoding="utf-8")
    PICTURE.write_text(picture(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
