"""Draw what `bench window-soak` sampled: `python -m thalweg.benchmarks.window.soak_picture OUT.svg LABEL=CSV …`."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_WIDE, _HIGH, _LEFT, _LOW = 760, 300, 60, 40
_COLOURS: Final = ("#96600a", "#0b5d6b", "#66727d")
_STEP_MB: Final = 250


def picture(runs: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw resident memory (MB) over time (minutes), a line for each run."""
    until = max(minute for points in runs.values() for minute, _ in points)
    top = (max(mb for points in runs.values() for _, mb in points) // _STEP_MB + 1) * _STEP_MB

    def x(minute: float) -> float:
        return _LEFT + minute / until * (_WIDE - _LEFT - 20)

    def y(mb: float) -> float:
        return _HIGH - _LOW - mb / top * (_HIGH - _LOW - 20)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDE}" height="{_HIGH}" fill="#fff"/>',
    ]
    for mb in range(0, int(top) + 1, _STEP_MB):
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDE - 20}" y1="{y(mb):.1f}" y2="{y(mb):.1f}" stroke="#dfe4e8"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(mb) + 4:.1f}" text-anchor="end" fill="#5a6773">{mb:,}</text>')
    for minute in range(0, int(until) + 1, 5):
        parts.append(
            f'<text x="{x(minute):.1f}" y="{_HIGH - _LOW + 18}" text-anchor="middle" fill="#5a6773">{minute}</text>'
        )
    parts.append(f'<text x="{_WIDE - 20}" y="{_HIGH - 6}" text-anchor="end" fill="#5a6773">minutes</text>')
    parts.append(f'<text x="{_LEFT}" y="14" fill="#5a6773">resident memory, MB</text>')
    for number, (label, points) in enumerate(runs.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = " ".join(f"{x(minute):.1f},{y(mb):.1f}" for minute, mb in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{_LEFT + 200 + 230 * number}" y="14" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main(out: str, *labelled: str) -> None:
    """Read the samples and write the picture."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for one in labelled:
        label, _, path = one.partition("=")
        with Path(path).open(newline="") as file:
            runs[label] = [(float(row["minute"]), float(row["rss_mb"])) for row in csv.DictReader(file)]
    Path(out).write_text(picture(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
