"""docs/measurements/placement.md shows the figures that were measured, and no others."""

from thalweg.benchmarks.placement.plan_pages import IMAGES, PAGE, page


def test_the_page_shows_the_results_of_record() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page() == text, "run: python -m thalweg.benchmarks.placement.plan_pages"
    for name in ("placement-real-graph.svg", "placement-convergence.svg"):
        assert f"images/{name}" in text and (IMAGES / name).exists()
