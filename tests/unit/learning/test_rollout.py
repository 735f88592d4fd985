"""Roll-outs as values: waves, evidence that may be looked at any time, decisions, and what edges may report."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.learning.rollout import evidence
from thalweg.learning.rollout.evidence import NOT_WORSE, RATES, WORSE, log_harm, log_safe
from thalweg.learning.rollout.facts import NOTHING, RolloutFact, RolloutKind, Tally
from thalweg.learning.rollout.plan import RolloutPlan, RolloutPlanError
from thalweg.learning.rollout.records import (
    ArmCounts,
    ReportedModel,
    RolloutRecordError,
    RolloutWish,
    read_desired,
    read_reported,
    value_of,
)
from thalweg.learning.rollout.reports import EdgeReports, desired
from thalweg.learning.rollout.rollout import Rollout, Rollouts, Seen, decide, take
from thalweg.learning.rollout.waves import LAST, NOBODY, answers, cut_of, position
from thalweg.learning.rollout.wishes import obey

PLAN = RolloutPlan(model="digits", version="8", digest="8" * 64, last_version="7", last_digest="7" * 64, soak_s=600.0)
HOUR_MS = 3_600_000
EDGES = tuple(f"edge-{number}" for number in range(200))


def begun(plan: RolloutPlan = PLAN, **changes: Any) -> Rollout:
    """A roll-out whose first wave has begun at 0."""
    run = Rollout(plan, 1, stage=0, cut=LAST // 100)
    for name, value in changes.items():
        setattr(run, name, value)
    return run


def told(new: tuple[int, int], last: tuple[int, int]) -> Tally:
    """The same outcomes of every measure."""
    return ((*new, *last),) * 4


def seen(tally: Tally, heard: int = 10, in_wave: int = 10) -> Seen:
    return Seen(tally=tally, positions=tuple(range(0, LAST, LAST // 1_000)), heard=heard, in_wave=in_wave)


# ---- waves -----------------------------------------------------------------------------------------------------------


@given(
    edges=st.sets(st.text("abcdef0123456789-", min_size=1, max_size=8), min_size=1, max_size=60),
    newcomers=st.sets(st.text("xyz", min_size=1, max_size=6), max_size=30),
    waves=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5, unique=True),
)
def test_waves_nest_whoever_comes_between_them_and_the_last_takes_everybody(
    edges: set[str], newcomers: set[str], waves: list[float]
) -> None:
    drawn = {edge: position("m", "2", edge) for edge in edges | newcomers}
    cut, before = NOBODY, set[str]()
    for wave, known in zip(
        [*sorted(waves), 1.0], itertools.chain([edges], itertools.repeat(edges | newcomers)), strict=False
    ):
        cut = cut_of(wave, sorted(drawn[edge] for edge in known), cut)
        chosen = {edge for edge in known if drawn[edge] <= cut}
        assert before <= chosen and chosen
        assert len(chosen) >= math.ceil(wave * len(known)) - 1e-9
        before = chosen
    assert before == edges | newcomers


def test_a_wave_has_as_many_edges_as_its_share_and_another_version_begins_with_others() -> None:
    first = {}
    for version in ("8", "9"):
        drawn = {edge: position("digits", version, edge) for edge in EDGES}
        cut = cut_of(0.05, sorted(drawn.values()), NOBODY)
        first[version] = {edge for edge in EDGES if drawn[edge] <= cut}
        assert len(first[version]) == 10
    assert first["8"] != first["9"]


def test_requests_are_split_as_by_a_coin_and_the_same_one_falls_the_same_way() -> None:
    fell = [answers(3, "edge-1", f"request-{number}", 0.3) for number in range(10_000)]
    assert abs(sum(fell) / 10_000 - 0.3) < 0.02
    assert fell == [answers(3, "edge-1", f"request-{number}", 0.3) for number in range(10_000)]


# ---- evidence --------------------------------------------------------------------------------------------------------


def factor(terms: np.ndarray, of_new: bool, is_bad: bool) -> np.ndarray:
    """What one outcome multiplies each pair's e-value by."""
    return np.exp(terms[:, (0 if of_new else 2) + (0 if is_bad else 1)])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_request_multiplies_the_evidence_by_at_most_one_on_the_average_under_all_that_is_denied(share: float) -> None:
    grid = np.linspace(0.0, 1.0, 41)
    for terms, is_denied in (
        (evidence._harm_terms(share, 0.03), lambda new, last: new <= last),
        (evidence._safe_terms(share, 0.03), lambda new, last: new >= last + 0.03),
    ):
        for new, last in itertools.product(grid, grid):
            if is_denied(new, last):
                expected = share * (new * factor(terms, True, True) + (1 - new) * factor(terms, True, False))
                expected += (1 - share) * (last * factor(terms, False, True) + (1 - last) * factor(terms, False, False))
                assert expected.max() <= 1 + 1e-9, (new, last)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_harm_needs_no_more_than_the_coin_where_no_request_is_answered_worse(share: float) -> None:
    terms = evidence._harm_terms(share, 0.03)
    for new, last in ((False, False), (False, True), (True, True)):
        assert (share * factor(terms, True, new) + (1 - share) * factor(terms, False, last)).max() <= 1 + 1e-12


def ever_above(log_e: Any, threshold: float, new: float, last: float, streams: int = 400, looks: int = 400) -> float:
    """Share of streams of requests in which somebody who looks all the time ever sees the threshold passed."""
    rng = np.random.default_rng(7)
    above = 0
    for _ in range(streams):
        sums = np.zeros(4, np.int64)
        for _ in range(looks):
            of_new = rng.binomial(20, 0.5)
            sums += (of_new, rng.binomial(of_new, new), 20 - of_new, rng.binomial(20 - of_new, last))
            if log_e(tuple(sums.tolist())) >= threshold:
                above += 1
                break
    return above / streams


def test_who_looks_all_the_time_and_stops_when_it_suits_is_wrong_no_more_often_than_promised() -> None:
    threshold = math.log(1 / 0.1)
    assert ever_above(lambda sums: log_harm(sums, 0.5, 0.03), threshold, 0.1, 0.1) <= 0.1
    assert ever_above(lambda sums: log_safe(sums, 0.5, 0.03), threshold, 0.13, 0.1) <= 0.1
    # That is not so of a test that is made to be looked at once: this check would tell.
    assert ever_above(z_value, 1.2816, 0.1, 0.1, streams=100) > 0.3


def z_value(sums: tuple[int, int, int, int]) -> float:
    """The usual test of two shares, one-sided."""
    new, bad_new, last, bad_last = sums
    mean = (bad_new + bad_last) / (new + last)
    spread = math.sqrt(max(mean * (1 - mean), 1e-9) * (1 / max(new, 1) + 1 / max(last, 1)))
    return (bad_new / max(new, 1) - bad_last / max(last, 1)) / spread


def test_evidence_grows_where_there_is_something_and_sums_that_fell_are_none() -> None:
    worse, same = (5_000, 650, 5_000, 500), (5_000, 500, 5_000, 500)
    assert log_harm(worse, 0.5, 0.03) > math.log(1_000) > 1 > log_harm(same, 0.5, 0.03)
    assert log_safe(same, 0.5, 0.03) > math.log(20) > 0 > log_safe(worse, 0.5, 0.03)
    assert log_harm((5, 6, 10, 1), 0.5, 0.03) == 0.0
    assert len(RATES) > 5 and max(WORSE) > 1 and 0.0 in NOT_WORSE


# ---- decisions -------------------------------------------------------------------------------------------------------


def test_a_wave_that_is_shown_to_be_safe_widens_after_its_least_time_and_the_last_one_completes() -> None:
    run, good = begun(), told((9_000, 900), (9_000, 900))
    assert decide(run, seen(good), 0) is None
    # A quorum that has not spoken, and a time that is not over, hold it.
    assert (early := decide(run, seen(good), 599_000)) is not None and early.kind is RolloutKind.LOOKED
    held = decide(run, seen(good, heard=4), 601_000)
    assert held is not None and held.kind is RolloutKind.LOOKED and "4 of 10 edges" in held.reason
    fact = decide(run, seen(good), 601_000)
    assert fact is not None and (fact.kind, fact.stage, fact.wave) == (RolloutKind.WIDENED, 1, 0.05)
    assert fact.cut > run.cut and fact.tally == good
    rollouts = Rollouts(newest={"digits": run})
    take(rollouts, fact)
    # What the wave before has shown does not count for this one.
    again = decide(run, seen(good), 2 * HOUR_MS)
    assert again is not None and again.kind is RolloutKind.LOOKED and "not yet shown" in again.reason
    last = begun(stage=3, cut=LAST)
    done = decide(last, seen(good), 601_000)
    assert done is not None and done.kind is RolloutKind.COMPLETED
    take(Rollouts(newest={"digits": last}), done)
    assert last.serving == ("8", "8" * 64) and not last.takes(0)


def test_what_is_worse_is_taken_back_with_its_measure_and_the_last_good_version_stays() -> None:
    run, bad = begun(), list(told((9_000, 900), (9_000, 900)))
    bad[2] = (9_000, 1_400, 9_000, 900)
    fact = decide(run, seen(tuple(bad)), 60_000)
    assert fact is not None and (fact.kind, fact.rule) == (RolloutKind.ROLLED_BACK, "slow")
    assert "1400 of 9000 with 8, 900 of 9000 with 7" in fact.reason
    assert run.serving == ("7", "7" * 64) and run.takes(0)
    take(Rollouts(newest={"digits": run}), fact)
    assert run.serving == ("7", "7" * 64) and not run.takes(0)
    assert decide(run, seen(NOTHING), 10 * HOUR_MS) is None


def test_no_roll_out_goes_on_for_ever_and_none_waits_for_a_measure_that_is_not_looked_at() -> None:
    fact = decide(begun(), seen(NOTHING, heard=0), int((PLAN.deadline_s + 1) * 1_000))
    assert fact is not None and (fact.kind, fact.rule) == (RolloutKind.ROLLED_BACK, "deadline")
    unjudged = ((0, 0, 0, 0), *told((9_000, 900), (9_000, 900))[1:])
    assert (held := decide(begun(), seen(unjudged), 601_000)) is not None and held.reason.endswith("safe: wrong")
    fewer = begun(replace(PLAN, margins={"failed": 0.02, "slow": 0.1}))
    assert (on := decide(fewer, seen(unjudged), 601_000)) is not None and on.kind is RolloutKind.WIDENED


def test_the_first_version_of_a_model_goes_to_everybody_and_no_wave_begins_without_edges() -> None:
    first = decide(Rollout(replace(PLAN, last_version="", last_digest=""), 1), Seen(), 5)
    assert first is not None and (first.kind, first.rule) == (RolloutKind.COMPLETED, "first")
    assert decide(Rollout(PLAN, 1), Seen(), 5) is None


def test_wishes_are_obeyed_once_and_refused_with_a_reason() -> None:
    rollouts = Rollouts()

    def ask(name: str, op: str = "start", version: str = "7") -> RolloutFact | None:
        wish = RolloutWish(wish=name, op=op, version=version, sha256=version * 64 if op == "start" else "")  # type: ignore[arg-type]
        if (fact := obey(rollouts, "digits", wish, 5)) is not None:
            take(rollouts, fact)
        return fact

    assert (fact := ask("a", "stop")) is not None and fact.rule == "not_running"
    assert (fact := ask("b")) is not None and (fact.kind, fact.number) == (RolloutKind.STARTED, 1)
    assert ask("b") is None
    done = decide(rollouts.newest["digits"], Seen(), 6)
    assert done is not None
    take(rollouts, done)
    assert (fact := ask("c")) is not None and fact.rule == "bad_plan" and "is the last good one" in fact.reason
    assert (fact := ask("d", version="8")) is not None and fact.plan is not None and fact.plan.last_version == "7"
    assert (fact := ask("e", version="9")) is not None and fact.rule == "in_progress"
    assert (fact := ask("f", "stop")) is not None and fact.kind is RolloutKind.STOPPED
    assert rollouts.newest["digits"].serving == ("7", "7" * 64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"waves": (0.5, 0.1, 1.0)}, "shares that grow"),
        ({"waves": (0.1, 0.5)}, "the last of them 1"),
        ({"share": 1.0}, "0.05 to 0.95"),
        ({"false_alarm": math.nan}, "false_alarm nan"),
        ({"margins": {"ugly": 0.1}}, "allowed are some of"),
        ({"margins": {}}, "allowed are some of"),
        ({"digest": "abc"}, "64 digits"),
        ({"model": "a/b"}, "no slash"),
        ({"deadline_s": 10.0}, "deadline_s"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_says_what_is_allowed(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RolloutPlanError, match=words):
        replace(PLAN, **changes).check()


# ---- reports ---------------------------------------------------------------------------------------------------------


def report(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "number": 1, "at_ms": 5, "version": "7", "sha256": "7" * 64, "beside": "8" * 64,
        "new": ArmCounts(requests=100, failed=1, slow=9, judged=20, wrong=2, latency_ms=90.0),
        "last": ArmCounts(requests=104, slow=11, judged=21, wrong=1, latency_ms=95.0),
    }  # fmt: skip
    return value_of(ReportedModel(**{**fields, **changes}))


def within(run: Rollout) -> str:
    return next(edge for edge in EDGES if position("digits", "8", edge) <= run.cut)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ({"number": 1}, "unreadable"),
        (report() | {"at_ms": math.nan}, "unreadable"),
        (report() | {"new": {"requests": 1, "latency_ms": math.inf}}, "unreadable"),
        (report() | {"new": {"requests": -1}}, "unreadable"),
        (report() | {"new": {"requests": 10, "slow": 11}}, "unreadable"),
        (report() | {"new": {"requests": 10, "failed": 5, "judged": 6}}, "unreadable"),
        (report(number=2), "unknown_rollout"),
        (report(beside="9" * 64), "other_version"),
        (report(at_ms=90_000_000), "ahead"),
        (report(last=ArmCounts()), "went_back"),
        (report(new=ArmCounts(requests=900, failed=1, slow=9, judged=20, wrong=2, latency_ms=90.0)), "not_split"),
    ],
)
def test_a_report_that_cannot_be_believed_changes_nothing_and_says_why(value: dict[str, Any], rule: str) -> None:
    run = begun(cut=LAST // 20)
    edge, reports = within(run), EdgeReports("digits")
    assert reports.take(run, edge, report(), 5) is None
    before = reports.seen(run)
    assert before.tally[0] == (20, 2, 21, 1) and before.heard == 1
    refused = reports.take(run, edge, value, 5)
    assert refused is not None and refused.rule == rule
    assert reports.seen(run) == before


def test_a_report_of_an_edge_that_nobody_has_asked_is_refused_and_an_earlier_roll_outs_counts_for_nothing() -> None:
    run, reports = begun(cut=LAST // 20), EdgeReports("digits")
    outside = next(edge for edge in EDGES if position("digits", "8", edge) > run.cut)
    refused = reports.take(run, outside, report(), 5)
    assert refused is not None and refused.rule == "not_asked"
    assert reports.take(run, outside, report(number=0), 5) is None
    assert reports.seen(run).tally == NOTHING and len(reports.seen(run).positions) == 1


@given(order=st.permutations(range(8)), twice=st.lists(st.integers(0, 7), max_size=8))
@settings(max_examples=30)
def test_order_and_repetition_of_reports_change_nothing(order: list[int], twice: list[int]) -> None:
    run = begun(cut=LAST)
    newest = [report(new=ArmCounts(requests=n, judged=n), last=ArmCounts(requests=n + 1, judged=n)) for n in range(8)]
    reports = EdgeReports("digits")
    for number in [*order, *twice]:
        assert reports.take(run, f"edge-{number}", newest[number], 5) is None
    assert reports.seen(run).tally[1] == (28, 0, 36, 0)


def test_what_is_desired_is_read_back_and_one_version_is_desired_of_all_once_it_is_over() -> None:
    run = begun(cut=LAST // 2)
    low, high = (desired(run, at) for at in (0, LAST))
    assert low is not None and high is not None and low.beside is not None and high.beside is None
    assert read_desired(value_of(low)) == low and read_desired(value_of(high)) == high
    for kind in (RolloutKind.COMPLETED, RolloutKind.ROLLED_BACK, RolloutKind.STOPPED):
        run.end = kind
        everybody = {desired(run, at) for at in (0, LAST // 2, LAST)}
        assert len(everybody) == 1
    with pytest.raises(RolloutRecordError, match="share"):
        read_desired(value_of(low) | {"beside": None})
    with pytest.raises(RolloutRecordError, match="finite"):
        read_desired(value_of(low) | {"share": math.nan})
    assert read_reported(report()).new.requests == 100
