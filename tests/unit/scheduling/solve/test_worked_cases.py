"""The numbers of docs/tutorial/examples: against enumeration by hand, and as the pages and pictures show them."""

import itertools
import re
from pathlib import Path

import pytest

from thalweg.benchmarks.placement import worked_cases as cases
from thalweg.benchmarks.placement import worked_pages as pages

OFFERED = [figure for figures in zip(*cases.OFFERS.values(), strict=True) for figure in figures]


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
    for name in ("lp", "genetic", "anneal"):
        found = cases.work_on_nodes(name)
        assert found["objective"] == pytest.approx(best, abs=1e-6)
        steps, usd, bounds = zip(*found["trace"], strict=True)
        assert list(steps) == sorted(set(steps))
        assert list(usd) == sorted(usd, reverse=True), "the best plan so far only gets better"
        assert list(bounds) == sorted(bounds), "and so does the bound"
        assert usd[0] > usd[-1] == pytest.approx(best, abs=1e-5)
        assert max(bounds) <= best + 1e-6
        assert found["trace"][cases.steps_to_best(found)][1] == pytest.approx(best, abs=1e-5)


def test_the_pages_say_what_the_engine_says_and_show_the_pictures_it_draws(tmp_path: Path) -> None:
    result = cases.numbers()
    pages.draw(result, tmp_path)
    for name, block in pages.blocks(result).items():
        text = (pages.FOLDER / f"{name}.md").read_text(encoding="utf-8")
        assert text == pages.filled(text, block), (
            f"{name}.md is out of date: python -m thalweg.benchmarks.placement.worked_pages"
        )
        assert f"({name}.svg)" in text
        drawn = (tmp_path / f"{name}.svg").read_bytes()
        assert drawn == (pages.FOLDER / f"{name}.svg").read_bytes(), (
            f"{name}.svg: python -m thalweg.benchmarks.placement.worked_pages"
        )


@pytest.mark.parametrize(
    ("page", "sentence", "inputs"),
    [
        ("data-on-nodes", "have ([^.]+?) GPUs", cases.NODE_GPUS),
        ("data-on-nodes", "hold (.+?) TB", cases.NODE_TB),
        ("three-cities", "come from (.+?;)", [cases.ORIGINS.count(city) for city in range(3)]),
        ("three-cities", "Round trips: (.+?)\\. ", [cases.RTT_MS[0][1], cases.RTT_MS[0][2], cases.RTT_MS[1][2]]),
        ("what-to-rent", "nodes of (.+?) an hour\\. ", OFFERED),
        ("work-on-nodes", "tasks of (.+?) units", cases.WORK),
        ("work-on-nodes", "speed C = (.+?) with", cases.SPEED),
        ("work-on-nodes", "λ = (.+?),", [cases.BALANCE_USD]),
    ],
)  # fmt: skip
def test_the_pages_describe_the_case_that_is_solved(page: str, sentence: str, inputs: list[float]) -> None:
    text = (pages.FOLDER / f"{page}.md").read_text(encoding="utf-8").replace("\n", " ")
    found = re.search(sentence, text)
    assert found is not None
    said = [float(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", found.group(1))]
    assert said == [float(value) for value in inputs]
