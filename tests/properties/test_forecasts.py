"""Forecasts: intervals in their order, the same bytes for the same rows, nothing of the future, files that are one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.forecast.forecast_reasons import explained_forecast
from thalweg.forecast.forecasting import forecast_file
from thalweg.learning.forecast.columns import (
    UNKNOWN,
    ColumnKind,
    ForecastColumn,
    ForecastInputError,
    Numbers,
    encoded,
    with_names,
)
from thalweg.learning.forecast.demand_rows import AHEAD_H, DEMAND_COLUMNS, WEEK_H, demand_history, demand_rows, naive
from thalweg.learning.forecast.forecast_file import read_forecast, written
from thalweg.learning.forecast.forecast_trial import ForecastHistory, tried
from thalweg.learning.forecast.group_quantiles import grouped, learnt
from thalweg.learning.forecast.scores import QUANTILES, pinball, scored

SEEDS = st.integers(0, 10**6)
COLUMNS = (
    ForecastColumn(name="said", kind=ColumnKind.SIZE),
    ForecastColumn(name="who", kind=ColumnKind.NAME, names=("a", "b", "c")),
    ForecastColumn(name="level", kind=ColumnKind.STEP, unit=10.0),
)


def a_history(seed: int, many: int = 400, *, noise: float = 1.0, spread: float = 0.5) -> ForecastHistory:
    """Durations that are usual for who asks (e², e⁴, e⁶), and requests that are that far from them."""
    chance = np.random.default_rng(seed)
    who = chance.integers(0, 3, many)
    y = 2.0 + 2.0 * who + spread * chance.standard_normal(many)
    said = np.exp(y + noise * chance.standard_normal(many))
    began = np.sort(chance.uniform(0.0, 1e6, many))
    return ForecastHistory(
        columns=COLUMNS,
        bases=(0,),
        x=np.stack([said, who.astype(float), chance.uniform(0, 50, many)], axis=1),
        y=y,
        began=began,
        ended=began + np.exp(y),
    )


def rows(seed: int, many: int = 60) -> Numbers:
    """Rows to ask with, strange ones among them."""
    chance = np.random.default_rng(seed)
    said = chance.choice([0.0, 1e-9, 1.0, 3_600.0, 1e300], many)
    return np.stack([said, chance.integers(UNKNOWN, 5, many).astype(float), chance.normal(0, 1e6, many)], axis=1)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, noise=st.sampled_from([0.0, 0.3, 5.0]), widen=st.sampled_from([-3.0, -0.1, 0.0, 0.2]))
def test_an_interval_holds_its_median_whatever_is_asked(seed: int, noise: float, widen: float) -> None:
    model = replace(a_history(seed, noise=noise).learnt(), widen=widen)
    told = model.quantiles(rows(seed))
    assert np.isfinite(told).all()
    assert (np.diff(told, axis=1) >= 0.0).all()
    assert (model.middle(rows(seed)) == told[:, 1]).all()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, many=st.integers(1, 40))
def test_a_group_by_itself_has_the_quantiles_of_its_rows(seed: int, many: int) -> None:
    history = a_history(seed, many, noise=9.0)
    model = grouped(history.x, history.y, COLUMNS, 0, ())
    (cell,) = model.cells[0].values()
    truth = history.y - np.log(np.maximum(history.x[:, 0], 1.0)) if cell.of_ratio else history.y
    assert cell.count == many
    assert cell.quantiles == pytest.approx(tuple(np.quantile(truth, QUANTILES)))


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS)
def test_rows_in_another_order_give_the_same_bytes(seed: int) -> None:
    history = a_history(seed)
    order = np.random.default_rng(seed).permutation(len(history.y))
    turned = replace(
        history, x=history.x[order], y=history.y[order], began=history.began[order], ended=history.ended[order]
    )
    files = [written(forecast_file("durations", one, 0.3, {}, unit_s=1.0)[0]) for one in (history, turned)]
    assert files[0] == files[1]
    assert read_forecast(files[0]).model == forecast_file("durations", history, 0.3, {}, unit_s=1.0)[0].model


def test_a_request_that_is_right_is_the_forecast() -> None:
    history = a_history(3, noise=0.0)
    told = history.learnt().quantiles(history.x)
    assert told == pytest.approx(np.repeat(history.y[:, None], 3, axis=1))


def test_requests_that_are_noise_are_not_taken_at_their_word() -> None:
    history = a_history(4, 3_000, noise=5.0)
    trial = tried(history, 0.3, {"said": lambda _: lambda x: np.repeat(np.log(np.maximum(x[:, :1], 1.0)), 3, axis=1)})
    assert 1 in trial.models[0][0].chain  # who asks
    assert trial.scores["learnt"].error < 0.5 < 2.0 < trial.scores["said"].error
    # No forecast can do better than the spread itself: 0.5 × √(2/π).
    assert trial.scores["learnt"].error > 0.5 * np.sqrt(2.0 / np.pi) * 0.9


def test_the_interval_holds_as_many_as_it_claims() -> None:
    scores = [tried(a_history(seed, 2_000, noise=2.0), 0.4, {}).scores["learnt"] for seed in range(5)]
    assert np.mean([score.coverage for score in scores]) == pytest.approx(0.8, abs=0.03)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_what_had_not_ended_is_not_learnt_from(seed: int) -> None:
    history = a_history(seed)
    history = replace(history, ended=history.began + 100.0 * np.exp(history.y))
    trial = tried(history, 0.3, {})
    cutoff = np.quantile(history.began, 0.7)
    future = history.ended > cutoff
    assert (trial.learnt_from, trial.left_out) == ((~future).sum(), (future & (history.began <= cutoff)).sum())
    assert trial.left_out > 0
    other = replace(history, y=np.where(future, 99.0, history.y))
    assert tried(other, 0.3, {}).models[0][0] == trial.models[0][0]
    known = replace(history, y=np.where(future, history.y, 99.0))
    assert tried(known, 0.3, {}).models[0][0] != trial.models[0][0]


def test_each_step_is_forecast_before_it_is_known() -> None:
    history = a_history(5, 600)
    trial = tried(history, 0.5, {})
    order = np.argsort(history.began, kind="stable")
    judges = order[-len(trial.y) :]
    done = 0
    for model, many in trial.models:
        first = history.began[judges[done]]
        past = history.of(history.ended < first)
        largest = model.cells[0][()].count
        assert 0 < largest <= len(past.y)
        done += many
    assert done == len(trial.y) and len(trial.models) == 10


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, origin=st.integers(WEEK_H, 3 * WEEK_H))
def test_nothing_of_the_future_is_in_the_rows_of_demand(seed: int, origin: int) -> None:
    asked = np.random.default_rng(seed).lognormal(0.0, 2.0, (3, 4 * WEEK_H))
    other = asked.copy()
    other[:, origin:] = np.nan
    told = demand_rows(asked, 450_000, origin)
    assert (demand_rows(other, 450_000, origin) == told).all()
    assert told.shape == (3 * AHEAD_H, len(DEMAND_COLUMNS))
    named = {column.name: told[:, at].reshape(3, AHEAD_H) for at, column in enumerate(DEMAND_COLUMNS)}
    assert (named["day_before"] == asked[:, origin - 24 : origin]).all()
    assert (named["week_before"] == asked[:, origin - 168 : origin - 144]).all()
    assert (named["hour_before"] == asked[:, origin - 1 : origin]).all()
    assert (named["hour"][0] == (450_000 + origin + np.arange(24)) % 24).all()


def test_a_day_that_comes_again_is_found_and_beats_what_it_was_before() -> None:
    chance, hours = np.random.default_rng(1), np.arange(8 * WEEK_H)
    usual = np.exp(3.0 + 2.0 * np.sin(hours * 2.0 * np.pi / 24.0) + np.array([[0.0], [1.0]]))
    asked = usual * np.exp(0.4 * chance.standard_normal((2, len(hours))))
    names = ("hour_before", "day_before", "week_before")
    trial = tried(demand_history(("a", "b"), asked, 0), 0.3, {name: naive(name) for name in names})
    own = trial.scores["learnt"]
    assert all(own.error < 0.8 * trial.scores[name].error for name in names)
    assert own.coverage == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    history = a_history(1)
    with pytest.raises(ForecastInputError, match=r"the truths hold .* allowed are finite numbers"):
        replace(history, y=np.where(history.y > 5.0, bad, history.y)).learnt()
    with pytest.raises(ForecastInputError, match=r"the rows hold .* allowed are finite numbers"):
        replace(history, x=np.where(history.x > 5.0, bad, history.x)).learnt()


@pytest.mark.parametrize("many", [0, 1, 49])
def test_too_few_rows_are_refused(many: int) -> None:
    history = a_history(1).of(np.arange(400) < many)
    with pytest.raises(ForecastInputError, match="50 and more"):
        learnt(history.x, history.y, history.ended, COLUMNS, (0,))
    with pytest.raises(ForecastInputError, match="Let more end"):
        tried(history, 0.3, {})


def test_rows_that_are_all_equal_give_that_and_no_interval() -> None:
    history = a_history(1)
    history = replace(history, x=np.repeat(history.x[:1], 400, axis=0), y=np.full(400, 3.0))
    assert (history.learnt().quantiles(history.x) == 3.0).all()
    assert tried(history, 0.3, {}).scores["learnt"].coverage == 1.0


def test_a_week_and_less_of_demand_is_refused() -> None:
    with pytest.raises(ForecastInputError, match="two weeks"):
        demand_history(("a",), np.ones((1, WEEK_H)), 0)


def filed(seed: int = 2) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written(forecast_file("durations", a_history(seed), 0.3, {}, unit_s=1.0)[0]))
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.update(format="thalweg-forecast/2"), "format"),
        (lambda told: told.update(other=1), "other"),
        (lambda told: told.update(chain=[7]), "do not name 3 columns"),
        (lambda told: told.update(chain=[1, 1], groups=told["groups"]), "do not name"),
        (lambda told: told["groups"].append([]), "depths"),
        (lambda told: told["groups"][0][0].__setitem__(3, [1.0, 0.0, 2.0]), "quantiles"),
        (lambda told: told["groups"][0][0].__setitem__(0, [4]), "at depth 0"),
        (lambda told: told["groups"][0][0].__setitem__(1, 0), ">= 1"),
        (lambda told: told.update(usual=[[1.0]]), "usual"),
        (lambda told: told["columns"][0].update(unit=0), "unit"),
        (lambda told: told.update(groups=[]), "depths"),
    ],
)
def test_a_file_that_is_no_forecast_is_refused_with_what_is_wrong(change: Any, words: str) -> None:
    told = filed()
    change(told)
    with pytest.raises(ForecastInputError, match=f"(?s){words}.*wanted is what thalweg forecast --out writes"):
        read_forecast(json.dumps(told).encode())


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"\x80\x04pickle", b'{"format": "thalweg-forecast/1"}', b"NaN"])
def test_foreign_files_are_refused(raw: bytes) -> None:
    with pytest.raises(ForecastInputError, match="no forecast"):
        read_forecast(raw)


def test_reasons_multiply_to_the_answer_and_what_is_not_looked_at_adds_nothing() -> None:
    file = read_forecast(json.dumps(filed()).encode())
    told = explained_forecast(file, 5, {"who": "c"}, 50)
    answer = told["answer"]
    product = float(np.prod([row["times"] for row in answer["values"]]))
    assert answer["usual"] * product == pytest.approx(answer["middle"], rel=1e-9)
    assert answer["least"] <= answer["middle"] <= answer["most"]
    by_name = {row["feature"]: row for row in answer["values"]}
    assert by_name["who"]["value"] == "c"
    unused = {column.name for column in file.columns} - {file.columns[at].name for at in (file.base, *file.chain)}
    assert all(by_name[name]["shapley"] == 0.0 for name in unused)
    assert explained_forecast(file, 5, {"who": "c"}, 50) == told
    for change in told["halved"]:
        assert change["answer"] <= 0.5 * answer["middle"]


@pytest.mark.parametrize(
    ("sample", "changed", "words"),
    [
        (200, {}, "there are 200, from 0"),
        (0, {"colour": "red"}, "no column; there are said, who, level"),
        (0, {"said": "nan"}, "finite numbers"),
        (0, {"level": "much"}, "finite numbers"),
    ],
)
def test_a_wrong_question_is_told_what_is_allowed(sample: int, changed: dict[str, str], words: str) -> None:
    with pytest.raises(ForecastInputError, match=words):
        explained_forecast(read_forecast(json.dumps(filed()).encode()), sample, changed, 50)


def test_a_row_without_a_column_is_refused_by_its_name() -> None:
    columns = with_names(COLUMNS, [{"who": "z"}])
    assert columns[1].names == ("z",)
    with pytest.raises(ForecastInputError, match="column level"):
        encoded(columns, [{"said": 1.0, "who": "z"}])


def test_the_loss_is_least_for_the_true_quantiles() -> None:
    truth = np.random.default_rng(0).standard_normal(20_000)
    true = np.quantile(truth, QUANTILES)
    least = pinball(truth, np.tile(true, (len(truth), 1)))
    for off in (-0.3, 0.3):
        assert least < pinball(truth, np.tile(true + off, (len(truth), 1)))
    assert scored(truth, np.tile(true, (len(truth), 1))).coverage == pytest.approx(0.8, abs=0.001)
