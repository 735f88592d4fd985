"""What forecasts and classifiers rest on, as the window tells it: by the door, on the page, of a file that is none."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.thalweg.window.conftest import OpenWindow, Serving
from tests.unit.thalweg.window.histories import random_batches, write_ledger, write_tables
from thalweg.conf.environment import cache_folder
from thalweg.federation.explained_classifier import ExplainedClassifier
from thalweg.federation.model_reasons import ReasonsAsked, explained
from thalweg.federation.reasons_file import written_reasons
from thalweg.forecast.forecasting import forecast_file
from thalweg.learning.forecast.columns import ColumnKind, ForecastColumn
from thalweg.learning.forecast.forecast_file import written
from thalweg.learning.forecast.forecast_trial import ForecastHistory
from thalweg.window.told_reasons import classifier_reasons

AXE: Path = cache_folder() / "axe-core" / "axe.min.js"
VIOLATIONS = """() => axe.run(document, {resultTypes: ["violations"]}).then(found => JSON.stringify(
    found.violations.map(one => [one.id, one.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])))"""
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
    classifier = folder / "digits.json"
    classifier.write_bytes(written_reasons(reasons()))
    return serving(
        warehouse,
        batches,
        forecasts=[str(good), str(broken), str(folder / "none.json")],
        classifiers=[str(classifier), str(good), str(folder / "none.json")],
    )


def reasons() -> dict[str, Any]:
    """Of a classifier that looks at the sign of feature 2 alone, and whose classes would be markup."""
    x = np.random.default_rng(5).standard_normal((60, 4))
    names = ("<b>no</b>", "<b>yes</b>")
    classifier = ExplainedClassifier(
        inputs=4, names=names, is_linear=True, scores=lambda rows: np.stack([-rows[:, 2], rows[:, 2]], axis=1)
    )
    found = explained(classifier, x, np.array(names)[(x[:, 2] > 0).astype(int)], ReasonsAsked())
    return {"model": "digits.onnx", "version": None, "sha256": "ab" * 32} | found


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


def test_the_door_tells_what_a_classifier_rests_on_why_of_one_answer_and_what_would_change_it(
    forecasting: OpenWindow,
) -> None:
    good, forecast, none = forecasting.get("/v1/classifiers")["classifiers"]
    assert (good["name"], good["model"], good["accuracy"], good["trouble"]) == ("digits", "digits.onnx", 1.0, None)
    assert good["importance"][0]["column"] == "feature 2" and good["importance"][0]["added"] > 20.0
    answer, other = good["answer"], good["counterfactual"]
    assert answer["values"][0]["column"] == "feature 2" and answer["named"] == answer["is"]
    assert {other["named"], answer["named"]} == {"<b>no</b>", "<b>yes</b>"}
    assert [row["column"] for row in other["changes"]] == ["feature 2"]
    assert "thalweg explain-model --out" in forecast["trouble"]
    assert "thalweg explain-model MODEL" in none["trouble"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws_a_classifiers_reasons_and_axe_finds_nothing_wrong(forecasting: OpenWindow, scheme: Any) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 360, "height": 800}, bypass_csp=True, color_scheme=scheme)
        page: Any = context.new_page()
        page.goto(f"{forecasting.url}/#/plans")
        card = "section[aria-label='Classifier: digits']"
        page.wait_for_selector(f"{card} .bar .part")
        widths = [float(one.get_attribute("width")) for one in page.query_selector_all(f"{card} tbody .bar .part")]
        assert widths == [100.0, 0.0, 0.0, 0.0] * 2, "points lost, then what each adds to the answer"
        words = page.inner_text(card)
        assert "100 % of 60 samples named rightly" in words and "abababababab…" in words
        assert "is named <b>" in words and "(rightly)" in words and "if feature 2 were" in words
        assert "no reasons of a classifier" in page.inner_text("section[aria-label='Classifier: durations']")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        if AXE.is_file():
            page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
            assert json.loads(page.evaluate(VIOLATIONS)) == []
        browser.close()


def test_a_file_that_would_never_end_or_is_too_large_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    good, pipe, huge, deep = (tmp_path / f"{name}.json" for name in ("good", "pipe", "huge", "deep"))
    good.write_bytes(written_reasons(reasons()))
    os.mkfifo(pipe)
    with huge.open("wb") as file:
        file.truncate(3 * 2**30)
    deep.write_text('{"a":' * 200_000)
    zeros = tmp_path / "zeros.json"
    zeros.symlink_to("/dev/zero")
    files = [pipe, huge, deep, zeros, tmp_path, good]
    found = {one["name"]: one["trouble"] for one in classifier_reasons([str(file) for file in files])["classifiers"]}
    assert found.pop("good") is None
    assert "no ordinary file" in found["pipe"] and "no ordinary file" in found["zeros"]
    assert "allowed are 8,388,608" in found["huge"]
    assert "nested too deep" in found["deep"]
    assert all(found.values())
