"""The rules for Prometheus: one for all that the page shows red, over metrics that there are, in words it reads."""

import re
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
FUNCTIONS: Final = {"increase", "rate", "sum", "max", "min"}
WORDS: Final = {"by", "or", "and", "unless"}
TOKEN: Final = re.compile(
    r'\s*(?:(?P<name>[a-zA-Z_:][\w:]*)|(?P<number>\d+(?:\.\d+)?)|(?P<string>"[^"\\]*")|(?P<range>\[\d+[smhd]\])'
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


def test_what_is_no_expression_is_found_out() -> None:
    for wrong in ("sum(up", "up == ", 'up{job="a"', "rate(up)", "nonsense(up[5m])", "up ! 1", "up up"):
        with pytest.raises(AssertionError):
            list(selectors(wrong))


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Give each metric of an expression with the labels that it is chosen by; AssertionError where it is none.

    The part of PromQL that the rules are written in: vectors, ranges under a function, comparisons, `or`, `sum by`.
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
