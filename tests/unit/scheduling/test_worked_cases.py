"""The numbers of docs/examples: against enumeration by hand, and as the pages print them."""

import itertools
import tempfile
from pathlib import Path

import pytest

from benchmarks import worked_cases as cases

PAGES = cases.PICTURES


def test_data_on_nodes_is_the_cheapest_of_all_125_ways() -> None:
    def cost(ways: tuple[int, ...]) -> float:
        if any(2 * ways.count(node) > gpus for node, gpus in enumerate(cases.NODE_GPUS)):
            return float("inf")
        return sum(2 * cases.USD_PER_GPU + cases.USD_PER_TB * (sum(cases.NODE_TB) - cases.NODE_TB[n]) for n in ways)

    best = min(cost(ways) for ways in itertools.product(range(5), repeat=3))
    result = cases.data_on_nodes()
    assert result["cost_usd"] == pytest.approx(best) == pytest.approx(20.6)
    assert result["bound_usd"] <= result["cost_usd"] + 1e-6
    assert result["utilisation"] == [0.0, 1.0, 0.0, 0.5, 0.0]


def test_three_cities_is_the_least_of_all_729_assignments() -> None:
    best = min(
        sum(cases.RTT_MS[o][c] for o, c in zip(cases.ORIGINS, ways, strict=True))
        for ways in itertools.product(range(3), repeat=len(cases.ORIGINS))
        if all(ways.count(city) <= places for city, places in enumerate(cases.PLACES))
    )
    result = cases.three_cities()
    assert result["total_rtt_ms"] == pytest.approx(best) == 150.0
    assert result["mean_response_ms"] == pytest.approx(150 / 6 + cases.SERVICE_MS)


def test_the_smallest_node_that_serves_the_demand_is_rented() -> None:
    result = cases.what_to_rent()
    assert len(result["combinations"]) == 7
    assert (result["rented"], result["usd_per_hour"]) == ("small", 500)


def test_every_strategy_comes_to_the_best_of_all_ways_and_none_below_the_bound() -> None:
    def cost(counts: tuple[int, ...]) -> float:
        # For given numbers of tasks a node, the largest work goes to the fastest nodes.
        work, at, total = sorted(cases.WORK, reverse=True), 0, 0.0
        for count, speed in zip(counts, cases.SPEED, strict=True):
            total += sum(work[at : at + count]) / speed
            at += count
        busy = [count / slots for count, slots in zip(counts, cases.SLOTS, strict=True)]
        mean = sum(counts) / sum(cases.SLOTS)
        return total + cases.BALANCE_USD * sum(
            slots * (share - mean) ** 2 for share, slots in zip(busy, cases.SLOTS, strict=True)
        )

    best = min(cost(counts) for counts in itertools.product(range(7), repeat=3) if sum(counts) == len(cases.WORK))
    result = cases.convergence()
    for name in ("genetic", "anneal"):
        assert result[name][-1] == pytest.approx(best, abs=1e-6)
        assert all(value >= result["bound"] - 1e-6 for value in result[name])
    assert result["lp"]["objective"] == pytest.approx(best, abs=1e-6)


def test_the_pages_print_these_numbers_and_the_pictures_are_the_drawn_ones() -> None:
    result = cases.numbers()
    told = {
        "data-on-nodes.md": ["20.60", "100 %", "50 %"],
        "three-cities.md": ["150", "45"],
        "what-to-rent.md": ["0.2000", "500"],
        "work-on-nodes.md": [f"{result['d']['lp']['objective']:.4f}", f"{result['d']['bound']:.4f}"],
    }
    for page, figures in told.items():
        text = (PAGES / page).read_text(encoding="utf-8")
        assert all(figure in text for figure in figures), page
        assert f"({page.replace('.md', '.svg')})" in text
    with tempfile.TemporaryDirectory() as folder:
        cases.draw(result, Path(folder))
        for picture in Path(folder).iterdir():
            assert picture.stat().st_size > 1000
            assert (PAGES / picture.name).is_file()
