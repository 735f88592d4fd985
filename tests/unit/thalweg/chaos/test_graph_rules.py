"""The audit of graphs must be able to fail: every rule is broken once on purpose, and sound books break none."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.thalweg.chaos.test_rules import HERE, THERE, Books
from thalweg.chaos.graph_rules import GRAPH_RULES
from thalweg.chaos.rules import audit

TRIES = {"at_most": 3, "not_on": [3], "by_cause": {"memory": 1}}


class GraphBooks(Books):
    """Books of graphs; a task takes a thousandth of what a machine has."""

    def asks(self, task: str, after: list[Any] | None = None, reason: str | None = None, **fields: Any) -> "GraphBooks":
        self.evidence.add("asked", [(task,)])
        self.evidence.add("graphed", [(task,)])
        request = json.dumps({"task_id": task, **({"after": after} if after else {}), **fields})
        elements = [f"{task}[{n}]" for n in range(fields["array"]["count"])] if "array" in fields else []
        for name in (task, *elements):
            self.row("submitted", task=name, request=request, reason=reason)
        return self

    def assigned(self, task: str, epoch: int = 1, region: str = HERE) -> "GraphBooks":
        self.row("assigned", epoch, region, task=task, event_id=f"{task}-{epoch}")
        self.heard(f"{task}-{epoch}", epoch, region, task)
        return self

    def runs(self, task: str, epoch: int = 1, region: str = HERE) -> "GraphBooks":
        """Give a task a place and let it run to its good end."""
        self.assigned(task, epoch, region).done(epoch, region, task)
        return self

    def fails(
        self, task: str, epoch: int = 1, cause: str = "exit", code: int | None = None, *, gave_up: bool = False
    ) -> "GraphBooks":
        self.assigned(task, epoch).machine("begin", epoch, HERE, task)
        self.machine("failed", epoch, HERE, task).ran(epoch, HERE, task)
        reason = "gave up after some attempts, the last: failed" if gave_up else "failed"
        self.row("failed", epoch, HERE, task=task, reason=reason, cause=cause, exit_code=code)
        return self

    def ends(self, task: str, state: str, reason: str) -> "GraphBooks":
        self.row(state, 1, task=task, reason=reason)
        return self

    def told(self, table: str, task: str) -> "GraphBooks":
        self.evidence.add(table, [(task,)])
        return self


def chain() -> GraphBooks:
    return GraphBooks().asks("p").asks("c", ["p"]).asks("d", [{"task_id": "p", "on": "end"}])


def gone(task: str, parent: str, how: str) -> Callable[[GraphBooks], GraphBooks]:
    return lambda books: books.ends(task, "cancelled", f"cancelled: its parent {parent} {how}")


def array(**terms: int) -> GraphBooks:
    return GraphBooks().asks("s", array={"count": 2, **terms}, retries=TRIES)


def sound() -> GraphBooks:
    """One of everything that may be."""
    books = GraphBooks()
    books.asks("early", ["late"]).asks("late").asks("misspelt", ["nobody"])
    books.ends("misspelt", "cancelled", "cancelled: its parent nobody was not submitted within 20 s")
    books.runs("late").runs("early", region=THERE)
    books.asks("p", retries=TRIES).fails("p", 1, "memory").fails("p", 2).fails("p", 3, "memory", gave_up=True)
    books.asks("c", ["p"], reason="cancelled: its parent p failed")
    books.ends("c", "cancelled", "cancelled: its parent p failed")
    books.asks("d", [{"task_id": "p", "on": "end"}, "late"]).runs("d")
    books.asks("x").told("cancels", "x").ends("x", "cancelled", "cancelled by request")
    books.asks("y", ["x"]).ends("y", "cancelled", "cancelled: its parent x was cancelled")
    books.asks("s", array={"count": 2, "at_most": 1}).asks("after", ["s"])
    books.runs("s[0]").runs("s[1]").ends("s", "succeeded", "array: of 2 elements 2 succeeded")
    books.runs("after")
    books.asks("t", array={"count": 1}, retries=TRIES).fails("t[0]", 1, "exit", 3, gave_up=True)
    books.ends("t", "failed", "gave up: array: of 1 elements 1 failed")
    books.asks("u", array={"count": 2}).told("cancels", "u[0]").runs("u[1]")
    books.ends("u[0]", "cancelled", "cancelled by request")
    books.ends("u", "cancelled", "array: of 2 elements 1 cancelled, 1 succeeded")
    books.asks("held").ends("held", "held", "held: by request").asks("waits", ["held"])
    books.asks("freed").ends("freed", "held", "held: by request").told("releases", "freed")
    books.ends("freed", "released", "released by request").runs("freed")
    return books


def test_sound_books_of_graphs_break_no_rule() -> None:
    findings = audit(sound().evidence)
    assert findings.violations == []
    assert (findings.in_graphs, findings.graphs_ended) == (17, 15), "all but who is held and who waits for it"


BREAKS: dict[str, tuple[Callable[[], Books], str]] = {
    "a child is given before its parent has ended": (
        lambda: chain().assigned("c").runs("p").done(task="c"),
        "early: task c was assigned in epoch 1 before its parent p had come to its success",
    ),
    "a child is given though its parent failed": (
        lambda: chain().fails("p", gave_up=True).runs("c"),
        "early: task c was assigned in epoch 1 before its parent p had come to its success",
    ),
    "a child runs on before its parent is there": (
        lambda: GraphBooks().asks("d", [{"task_id": "p", "on": "end"}]).runs("d").asks("p").runs("p"),
        "early: task d was assigned in epoch 1 before its parent p had come to its end",
    ),
    "a child is said to run before its parent has ended": (
        lambda: chain().ends("c", "running", ""),
        "early: task c was running in epoch 1",
    ),
    "a machine begins a child while its parent runs": (
        lambda: chain().machine("begin", task="c").runs("p").assigned("c"),
        "early: a machine began task c in epoch 1 before one had seen its parent p succeed",
    ),
    "a machine begins a child while an element of its parent runs": (
        lambda: array().runs("s[0]").asks("c", ["s"]).machine("begin", task="c").runs("s[1]"),
        "before one had seen its parent s[1] succeed",
    ),
    "an array succeeds before an element has": (
        lambda: array().runs("s[0]").ends("s", "succeeded", "array: of 2").runs("s[1]"),
        "early: array s succeeded before its elements had",
    ),
    "an array fails of which nothing has": (
        lambda: array().runs("s[0]").runs("s[1]").ends("s", "failed", "gave up: array: of 2"),
        "early: array s failed before its elements had",
    ),
    "more of an array runs than may": (
        lambda: array(at_most=1).assigned("s[0]").assigned("s[1]"),
        "over: array s had 2 elements at once",
    ),
    "a child without hope waits": (
        lambda: chain().fails("p", gave_up=True),
        "lost: task c waits for ever: its parent p failed",
    ),
    "a child waits for a parent that nobody submits": (
        lambda: GraphBooks().asks("c", ["nobody"]),
        "lost: task c waits for nobody, which nobody has submitted",
    ),
    "a child is forgotten": (lambda: chain().runs("p").runs("c"), "lost: task d has nothing in front of it any more"),
    "an element is forgotten": (lambda: array().runs("s[0]"), "lost: task s[1] has nothing in front of it any more"),
    "a task whose failure is to be tried again is forgotten": (
        lambda: GraphBooks().asks("p").fails("p"),
        "lost: task p has nothing in front of it any more",
    ),
    "an array is forgotten": (lambda: array().runs("s[0]").runs("s[1]"), "lost: array s goes on"),
    "a release is lost": (
        lambda: GraphBooks().asks("p").ends("p", "held", "held: by request").told("releases", "p"),
        "lost: the release of task p was acknowledged, and it is held",
    ),
    "a child is cancelled though its parent succeeded": (
        lambda: gone("c", "p", "failed")(chain().runs("p")),
        "orphan: task c was cancelled for no cause that is to be seen: cancelled: its parent p failed",
    ),
    "a child is cancelled though any end of its parent is right": (
        lambda: gone("d", "p", "failed")(chain().fails("p", gave_up=True)),
        "orphan: task d was cancelled for no cause that is to be seen",
    ),
    "a child is cancelled before its parent has failed": (
        lambda: gone("c", "p", "failed")(chain()).fails("p", gave_up=True),
        "orphan: task c was cancelled for no cause",
    ),
    "a child is cancelled with the wrong words": (
        lambda: gone("c", "p", "was cancelled")(chain().fails("p", gave_up=True)),
        "orphan: task c was cancelled for no cause",
    ),
    "a task is cancelled that nobody cancels": (
        lambda: chain().ends("p", "cancelled", "cancelled by request"),
        "orphan: task p was cancelled for no cause",
    ),
    "a child is given up though its parent was submitted": (
        lambda: gone("c", "p", "was not submitted within 20 s")(chain()),
        "orphan: task c was cancelled for no cause",
    ),
    "a failure is not tried again": (
        lambda: GraphBooks().asks("p", retries=TRIES).fails("p", 1).fails("p", 2, gave_up=True),
        "lost: task p was given up after failure 2 (exit), after which it was to be tried again",
    ),
    "a failure of one kind is tried too often": (
        lambda: GraphBooks().asks("p", retries=TRIES).fails("p", 1, "memory").fails("p", 2, "memory"),
        "double: task p was tried again after failure 2 (memory), after which it was to be given up",
    ),
    "an exit code is tried again that is not to be": (
        lambda: GraphBooks().asks("p", retries=TRIES).fails("p", 1, "exit", 3),
        "double: task p was tried again after failure 1 (exit)",
    ),
    "a time limit is tried again that is not to be": (
        lambda: GraphBooks().asks("p", retries=TRIES).fails("p", 1, "time_limit"),
        "double: task p was tried again after failure 1 (time_limit)",
    ),
    "a task is tried a fourth time that does not say how often": (
        lambda: GraphBooks().asks("p").fails("p", 1).fails("p", 2).fails("p", 3),
        "double: task p was tried again after failure 3 (exit)",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_each_break_of_a_graph_is_found(what: str) -> None:
    broken, words = BREAKS[what]
    found = broken().found()
    assert any(words in violation for violation in found), found


def test_every_rule_of_graphs_has_its_break() -> None:
    evidences = [broken().evidence for broken, _ in BREAKS.values()]
    unbroken = {rule.words for rule in GRAPH_RULES if not any(one.db.execute(rule.sql).fetchall() for one in evidences)}
    assert unbroken == set()
