"""The rules for Prometheus: one for all that the page shows red, over metrics that there are, in words it reads."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.unit.thalweg.window.conftest import OpenWindow
from thalweg.conf.environment import ALERTS, PROJECT_ROOT
from thalweg.reference.errors_and_metrics import public_metrics
from thalweg.window.metrics import KINDS

STYLE: Final = PROJECT_ROOT / "thalweg" / "window" / "page" / "style.css"
REPORTS: Final = PROJECT_ROOT / "thalweg" / "window" / "reports.py"
PROMTOOL: Final = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool here: apt-get install prometheus")
GROWS: Final = "0x9 1+1x70"
FIRST_SEEN: Final = "_x10 1x20"
"""A series that is there only once there is something to count."""
ILL: Final = {
    # What each alert stands for, as Prometheus sees it: nine minutes well, and then not.
    "WindowDown": ('up{job="thalweg-window"}', "1x9 0x70"),
    "LedgerUnreadable": ('thalweg_window_unwell{kind="ledger"}', "0x9 1x70"),
    "ProcessDown": ('thalweg_window_unwell{kind="process"}', "0x9 1x70"),
    "RegionSilent": ('thalweg_window_regions{state="silent"}', "0x9 2x70"),
    "DigestsDiffer": ('thalweg_window_unwell{kind="digests"}', "0x9 1x70"),
    "SyncGapsOpen": ('thalweg_window_unwell{kind="gaps"}', "0x9 1x70"),
    "SamplesQuarantined": ('thalweg_window_unwell{kind="quarantine"}', "0x9 1x70"),
    "NodesGone": ('thalweg_window_nodes{state="gone"}', "0x9 3x70"),
    "TasksFail": ('thalweg_window_changes_total{change="failed"}', GROWS),
    "CopiesLost": ('thalweg_window_changes_total{change="lost"}', GROWS),
    "RecordsRefused": ('thalweg_refused_total{job="place"}', FIRST_SEEN),
    "QueryFailing": ('thalweg_query_failing{query="place"}', "0x9 1x70"),
    "BesideFailing": ('thalweg_beside_failing_seconds{what="folds"}', "0x9 61x70"),
    "RecordsLost": ('thalweg_records_lost_total{topic="t"}', FIRST_SEEN),
    "PlacementLate": ("thalweg_place_record_lag_seconds", "1x9 11x70"),
}
FUNCTIONS: Final = {"increase", "rate", "sum", "max", "min"}
WORDS: Final = {"by", "or", "and", "unless", "offset"}
TOKEN: Final = re.compile(
    r'\s*(?:(?P<name>[a-zA-Z_:][\w:]*)|(?P<time>\d+[smhd])|(?P<number>\d+(?:\.\d+)?)|(?P<string>"[^"\\]*")|(?P<range>\[\d+[smhd]\])'
    r"|(?P<sign>==|!=|=~|!~|>=|<=|[=><+*/(){},-]))"
)
RULES: Final = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def reds_of_the_page() -> set[str]:
    """Marks that the style paints red, and what the overview may call unwell."""
    (painted,) = re.findall(r"^\.state:is\((.*)\) i \{ background: var\(--bad\)", STYLE.read_text(), re.M)
    kinds = re.findall(r"\bsay\(\s*\"(\w+)\",", REPORTS.read_text())
    assert set(kinds) == set(KINDS)
    return {f"state/{name}" for name in re.findall(r"data-state=(\w+)", painted)} | {f"unwell/{kind}" for kind in KINDS}


def test_everything_that_the_page_shows_red_has_a_rule() -> None:
    named = {red for rule in RULES for red in rule["annotations"].get("red", "").split()}
    assert named == reds_of_the_page()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_is_whole_and_over_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    assert {"alert", "expr", "labels", "annotations"} <= set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "action"} <= set(rule["annotations"])
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    known = {metric.name: {*metric.labels, "job"} for metric in public_metrics()} | {"up": {"job"}}
    metrics = dict(selectors(rule["expr"]))
    assert metrics.keys() <= known.keys()
    for name, labels in metrics.items():
        assert labels <= known[name], name


@needs_promtool
def test_prometheus_itself_reads_the_rules() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in told("check", "rules", str(ALERTS))


@needs_promtool
def test_each_alert_calls_when_it_is_ill_and_is_silent_while_it_is_well(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": played()}))
    told("test", "rules", str(plan))


def played() -> list[dict[str, Any]]:
    """Give what Prometheus is to play: of each rule its series, and whether it calls, early and late."""
    tests = []
    for rule in RULES:
        series, values = ILL[rule["alert"].removeprefix("Thalweg")]
        _, _, listed = series.partition("{")
        labels = dict(re.findall(r'(\w+)="([^"]*)"', listed)) | rule["labels"]
        calls = {"exp_labels": labels, "exp_annotations": rule["annotations"]}
        moments = [
            {"eval_time": at, "alertname": rule["alert"], "exp_alerts": expected}
            for at, expected in (("9m", []), ("22m", [calls]))
        ]
        told_of = [{"series": series, "values": values}]
        tests.append({"interval": "1m", "input_series": told_of, "alert_rule_test": moments})
    return tests


@needs_promtool
def test_prometheus_itself_reads_the_metrics(window: OpenWindow) -> None:
    told("check", "metrics", text=window.ask("/metrics")[1])


def told(*words: str, text: bytes = b"") -> str:
    """Ask promtool, which has to be content."""
    done = subprocess.run([str(PROMTOOL), *words], input=text, capture_output=True, timeout=300, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def test_what_is_no_expression_is_found_out() -> None:
    for wrong in ("sum(up", "up == ", 'up{job="a"', "rate(up)", "nonsense(up[5m])", "up ! 1", "up up"):
        with pytest.raises(AssertionError):
            list(selectors(wrong))


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Give each metric of an expression with the labels that it is chosen by; AssertionError where it is none.

    The part of PromQL that the rules are written in: vectors, ranges under functions, comparisons, `or`, `offset`.
    """
    tokens, at = list[tuple[str, str]](), 0
    while at < len(expression.rstrip()):
        found = TOKEN.match(expression, at)
        assert found, f"no token at {expression[at:]!r}"
        tokens.append((str(found.lastgroup), found[found.lastgroup or 0]))
        at = found.end()
    reader = _Reader(tokens)
    yield from reader.expression()
    assert not reader.tokens, f"what follows: {reader.tokens}"


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens

    def next(self) -> str:
        return self.tokens[0][1] if self.tokens else ""

    def take(self, *allowed: str) -> str:
        assert self.tokens, "it ends too early"
        kind, text = self.tokens.pop(0)
        assert not allowed or text in allowed or kind in allowed, f"{text!r} is none of {allowed}"
        return text

    def expression(self) -> Iterator[tuple[str, set[str]]]:
        yield from self.operand()
        while self.next() in {"or", "and", "unless", "==", "!=", ">", "<", ">=", "<=", "+", "-", "*", "/"}:
            self.take()
            yield from self.operand()

    def operand(self) -> Iterator[tuple[str, set[str]]]:
        if self.next() == "(":
            self.take()
            yield from self.expression()
            self.take(")")
        elif self.tokens and self.tokens[0][0] == "number":
            self.take()
        else:
            name = self.take("name")
            assert name not in WORDS
            if self.next() in ("(", "by"):
                yield from self.call(name)
            else:
                yield name, self.labels()

    def call(self, name: str) -> Iterator[tuple[str, set[str]]]:
        assert name in FUNCTIONS, name
        if self.next() == "by":
            self.take()
            self.take("(")
            self.take("name")
            self.take(")")
        self.take("(")
        yield from self.expression()
        assert name not in ("rate", "increase") or self.range_read
        self.take(")")

    range_read = False

    def labels(self) -> set[str]:
        found = self.chosen_by()
        if self.next() == "offset":
            self.take()
            self.take("time")
        return found

    def chosen_by(self) -> set[str]:
        found: set[str] = set()
        if self.next() == "{":
            self.take()
            while self.next() != "}":
                found.add(self.take("name"))
                self.take("=", "!=", "=~", "!~")
                self.take("string")
                if self.next() == ",":
                    self.take()
            self.take()
        self.range_read = bool(self.tokens) and self.tokens[0][0] == "range"
        if self.range_read:
            self.take()
        return found


def test_the_window_serves_its_metrics_and_the_rules(window: OpenWindow) -> None:
    status, text, headers = window.ask("/metrics")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    shown = set(re.findall(r"^# TYPE (thalweg_window_\w+)", text.decode(), re.M))
    ours = {metric.name for metric in public_metrics() if metric.module == "thalweg.window.metrics"}
    assert ours <= shown
    assert re.search(rb'^thalweg_window_tasks\{state="waiting"\} \d', text, re.M)
    assert window.ask("/metrics", key="look")[0] == 403, "it tells of all tenants"
    assert window.ask("/alerts.yaml")[1] == Path(ALERTS).read_bytes()
