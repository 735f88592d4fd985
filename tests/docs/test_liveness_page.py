"""docs/explanation/liveness.md shows the figures that were measured, and they keep what is claimed."""

import json
from typing import Any

from thalweg.benchmarks.liveness.liveness import RULES
from thalweg.benchmarks.placement.plan import RESULTS
from thalweg.conf.environment import PROJECT_ROOT

RESULT: dict[str, Any] = json.loads((RESULTS / "liveness.json").read_text(encoding="utf-8"))


def test_the_page_shows_the_results_of_record() -> None:
    text = (PROJECT_ROOT / "docs/explanation/liveness.md").read_text(encoding="utf-8")
    for region in RESULT["regions"].values():
        cells = [region["what"]]
        for name in ("losses_a_day_while_alive", "detected_after_s_p50", "detected_after_s_worst"):
            cells.append(" / ".join(f"{region[rule][name]:g}" for rule in RULES))
        assert f"| {' | '.join(cells)} |" in text


def test_regular_regions_are_never_lost_and_found_dead_in_about_the_time_configured() -> None:
    for name in ("regular", "lossy", "slow"):
        figures = RESULT["regions"][name]["with_patience"]
        assert figures["losses_a_day_while_alive"] == 0
        assert figures["detected_after_s_worst"] < RESULT["timeout_s"] + 3
