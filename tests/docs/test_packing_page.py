"""docs/measurements/packing.md shows the figures that were measured, and no others."""

import json

import pytest

from thalweg.benchmarks.packing import steady, steady_pages
from thalweg.benchmarks.packing.pack import RESULT
from thalweg.benchmarks.packing.pack_pages import BEGIN, END, IMAGES, PAGE, SCALE_RESULT, measured, page, read


def test_the_page_shows_the_results_of_record() -> None:
    result = read(RESULT)
    assert result is not None
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, result, read(SCALE_RESULT)) == text, "run: python -m thalweg.benchmarks.packing.pack_pages"
    assert text.count(BEGIN) == text.count(END) == 1
    for name in ("packing-allocation.svg", "packing-ceiling.svg"):
        assert f"images/{name}" in text and (IMAGES / name).exists()


def test_the_page_shows_the_steady_state_of_record() -> None:
    result = json.loads(steady.RESULT.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    block = steady_pages.block(result)
    assert f"{steady_pages.BEGIN}\n\n{block}\n\n{steady_pages.END}" in text
    result["runs"][0]["fgd"]["allocation_percent"] += 1.0
    assert steady_pages.block(result) != block


def test_the_page_follows_the_results() -> None:
    result = read(RESULT)
    assert result is not None
    before = measured(result, None)
    result["parts"]["default"]["fill"]["allocation_percent"] += 1.0
    assert measured(result, None) != before


@pytest.mark.parametrize("name", ["default", "cpu100", "gpushare40", "gpuspec10", "multigpu20"])
def test_the_measured_figures_keep_what_is_claimed_of_every_list(name: str) -> None:
    result = read(RESULT)
    assert result is not None
    part = result["parts"][name]
    fill, fgd, published = part["fill"], part["fgd"], part["published_fgd"]
    for key in ("allocation_percent", "allocation_at_100_percent"):
        assert fill[key] > max(fgd[key], published[key])
    assert fill["failed_pods"] <= fgd["failed_pods"]
    ceilings = part["ceiling_percent"]
    assert fill["allocation_percent"] <= ceilings["same_shares_accepted"]
    assert part["moves"]["moved_percent_of_running"] <= 1.0
    if name == "default":
        assert fill["allocation_percent"] >= 96.2
