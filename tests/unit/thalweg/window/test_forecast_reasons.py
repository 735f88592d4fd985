"""What forecasts rest on, as the window tells it: by the door, on the page, and of a file that is none."""

import shutil
from typing import Any

import numpy as np
import pytest

from tests.unit.thalweg.window.conftest import OpenWindow, Serving
from tests.unit.thalweg.window.histories import random_batches, write_ledger, write_tables
from thalweg.forecast.forecasting import forecast_file
from thalweg.learning.forecast.columns import ColumnKind, ForecastColumn
from thalweg.learning.forecast.forecast_file import written
from thalweg.learning.forecast.forecast_trial import ForecastHistory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def forecasting(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> OpenWindow:
    """A window with one forecast, whose names would be markup, and two files that are none."""
    folder = tmp_path_factory.mktemp("forecasts")
    chance, many = np.random.default_rng(1), 300
    said, who = chance.uniform(1.0, 9.0, many), chance.integers(0, 2, many).astype(float)
    columns = (
        ForecastColumn(name="said", kind=ColumnKind.SIZE),
        ForecastColumn(name="<b>who</b>", kind=ColumnKind.NAME, names=("a", "b")),
    )
    history = ForecastHistory(
        columns=columns,
        bases=(0,),
        x=np.stack([said, who], axis=1),
        y=5.0 * who + 0.1 * chance.standard_normal(many),
        began=np.arange(float(many)),
        ended=np.arange(float(many)) + 0.5,
    )
    good, broken = folder / "durations.json", folder / "broken.json"
    usual = {"usual of all": lambda past: past.learnt(()).quantiles}
    good.write_bytes(written(forecast_file("durations", history, 0.3, usual, unit_s=1.0)[0]))
    broken.write_text("{")
    warehouse = str(tmp_path_factory.mktemp("warehouse"))
    batches = random_batches(21, 8, 300)
    write_ledger(warehouse, batches)
    write_tables(warehouse, batches)
    return serving(warehouse, batches, forecasts=[str(good), str(broken), str(folder / "none.json")])


def test_the_door_tells_what_a_forecast_rests_on_and_why_one_cannot_be_read(forecasting: OpenWindow) -> None:
    good, broken, none = forecasting.get("/v1/forecasts")["forecasts"]
    assert (good["name"], good["what"], good["rows"], good["trouble"]) == ("durations", "durations", 300, None)
    assert good["importance"][0]["column"] == "<b>who</b>" and good["importance"][0]["added"] > 0.5
    assert [score["forecast"] for score in good["scores"]] == ["learnt", "usual of all"]
    assert good["scores"][0]["loss"] < good["scores"][1]["loss"]
    assert "thalweg forecast --out" in broken["trouble"]
    assert "Errno" not in none["trouble"]
    assert "write it with thalweg forecast" in none["trouble"] and none["trouble"].endswith("none.json")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_draws_them_beside_the_plans_and_the_first_page_does_not_ask(forecasting: OpenWindow) -> None:
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": 360, "height": 800})
        page.on("request", lambda one: asked.append(one.url))
        page.goto(forecasting.url)
        page.wait_for_selector(".figure")
        assert not any("forecasts" in url for url in asked)
        page.goto(f"{forecasting.url}/#/plans")
        page.wait_for_selector("section[aria-label='Forecast: durations'] .bar .part")
        bars = page.query_selector_all("section[aria-label='Forecast: durations'] tbody .bar .part")
        widths = [float(one.get_attribute("width")) for one in bars]
        assert widths[0] == 100.0 and 0.0 <= widths[1] < 5.0, "what it rests on, the largest first"
        assert widths[2] < widths[3] == 100.0, "what was learnt loses less"
        words = page.inner_text("section[aria-label='Forecast: durations']")
        assert "<b>who</b>" in words
        assert "no forecast" in page.inner_text("section[aria-label='Forecast: broken']")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        browser.close()
