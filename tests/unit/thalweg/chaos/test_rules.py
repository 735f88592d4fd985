"""The audit must be able to fail: every rule is broken once on purpose, and sound books break none."""

from collections.abc import Callable
from typing import Any

import pytest

from thalweg.chaos.evidence import Evidence
from thalweg.chaos.graph_rules import GRAPH_RULES
from thalweg.chaos.rules import RULES, audit

REQUEST = '{"task_id": "a", "per_worker": {"gpus": 1, "cpus": 4, "memory_gb": 16}}'
HERE, THERE = "r0", "r1"
BEGAN_MS = 1_700_000_000_000


class Books:
    """Sound books of one task, written step by step; a test leaves out, repeats or changes a step."""

    def __init__(self) -> None:
        self.evidence = Evidence(None)
        self.position = 0
        self.number = 0
        self.evidence.add("nodes", [(region, "n", 2, 8.0, 32.0) for region in (HERE, THERE)])

    def asked(self, task: str = "a") -> "Books":
        self.evidence.add("asked", [(task,)])
        return self

    def row(self, transition: str, epoch: int = 0, region: str | None = None, **more: Any) -> "Books":
        self.position += 1
        row = {"task": "a", "copy": 0, "event_id": None, "request": None} | more
        told = (row.get("reason"), row.get("cause"), row.get("exit_code"))
        self.evidence.add(
            "ledger",
            [
                (
                    self.position,
                    row["task"],
                    row["copy"],
                    epoch,
                    transition,
                    region,
                    row["event_id"],
                    row["request"],
                    *told,
                )
            ],
        )
        return self

    def submitted(self, task: str = "a", request: str = REQUEST) -> "Books":
        self.row("submitted", task=task, request=request)
        return self

    def given(
        self, epoch: int = 1, region: str = HERE, task: str = "a", device: int = 0, workers: int = 1, **more: Any
    ) -> "Books":
        """Give a task a GPU, in the ledger and on the topic."""
        event_id = more.pop("event_id", f"{task}-{epoch}")
        self.row("assigned", epoch, region, task=task, event_id=event_id, **more)
        self.evidence.add("shares", [(self.position, "n", workers)])
        self.evidence.add("seats", [(self.position, "n", device, 1_000)])
        self.heard(event_id, epoch, region, task)
        return self

    def heard(self, event_id: str, epoch: int = 1, region: str = HERE, task: str = "a") -> "Books":
        self.evidence.add("heard", [(event_id, "assign", task, epoch, region)])
        return self

    def machine(
        self, what: str, epoch: int = 1, region: str = HERE, task: str = "a", life: str = "one", device: int = 0
    ) -> "Books":
        self.number += 1
        self.evidence.add("machines", [(self.number, life, self.number, what, region, task, epoch)])
        if what in ("begin", "resume"):
            self.evidence.add("machine_seats", [(self.number, "n", device, 1_000)])
        return self

    def ran(
        self, epoch: int = 1, region: str = HERE, task: str = "a", file: str = "f", began: int = BEGAN_MS
    ) -> "Books":
        self.evidence.add("runs", [(file, region, task, epoch, began, "succeeded")])
        return self

    def held(self, epoch: int = 1, region: str = HERE, task: str = "a") -> "Books":
        self.evidence.add("held", [(region, task, epoch, "running")])
        return self

    def done(self, epoch: int = 1, region: str = HERE, task: str = "a") -> "Books":
        """Run a task to its good end, and say so."""
        self.machine("begin", epoch, region, task)
        self.machine("succeeded", epoch, region, task)
        self.ran(epoch, region, task)
        self.row("succeeded", epoch, region, task=task)
        return self

    def found(self) -> list[str]:
        return list(audit(self.evidence).violations)


def sound(books: Books) -> None:
    """One task that is lost once and then runs to its end elsewhere; another that is killed and goes on."""
    books.asked()
    books.submitted()
    books.given(1)
    books.machine("begin")
    books.ran()
    books.row("lost", 1, HERE)
    books.given(2, THERE)
    books.machine("stopped")
    books.done(2, THERE)
    books.asked("b")
    books.submitted("b")
    books.given(1, HERE, "b")
    books.machine("begin", 1, HERE, "b", life="two")
    books.machine("resume", 1, HERE, "b", life="three")
    books.ran(1, HERE, "b")
    books.held(1, HERE, "b")
    books.evidence.add("nonsense", [("bad",)])
    books.evidence.add("refused", [("bad", "")])
    books.evidence.add("refused", [("a", "cancel")])
    books.evidence.add("written", [("k",)])
    books.evidence.add("records", [("k",)])
    books.evidence.add("tabled", [(1, "a", "succeeded"), (2, "b", "running")])


def test_sound_books_break_no_rule() -> None:
    books = Books()
    sound(books)
    findings = audit(books.evidence)
    assert findings.violations == []
    assert (findings.accepted, findings.placed, findings.standing) == (2, 2, 1)


def begun(task: str = "a", books: Books | None = None) -> Books:
    return (books or Books()).asked(task).submitted(task)


def placed() -> Books:
    return begun().given()


def running() -> Books:
    return placed().held().machine("begin").ran()


def with_evidence(books: Books, table: str, *row: str | int) -> Books:
    books.evidence.add(table, [row])
    return books


BREAKS: dict[str, tuple[Callable[[], Books], str]] = {
    "a request is acknowledged and not taken": (lambda: Books().asked(), "lost: the request of task a"),
    "a good request is refused": (lambda: with_evidence(begun(), "refused", "a", "submit"), "lost: task a was refused"),
    "nonsense is swallowed": (lambda: with_evidence(Books(), "nonsense", "x"), "lost: x is no request"),
    "a write is lost": (lambda: with_evidence(Books(), "written", "k"), "lost: the write of record k"),
    "an assignment is not told": (placed, "lost: task a is in r0"),
    "a report is lost": (lambda: running().machine("succeeded"), "lost: task a succeeded in r0"),
    "a report of a failure is lost": (lambda: running().machine("failed"), "lost: task a failed in r0"),
    "a run is begun again after a restart": (
        lambda: running().machine("begin", life="two"),
        "double: task a began 2 times",
    ),
    "a restored file runs it again": (
        lambda: running().ran(file="copy", began=BEGAN_MS + 1),
        "double: task a began at 2 different times",
    ),
    "a success counts twice": (
        lambda: placed().done().row("succeeded", 1, HERE),
        "double: copy 0 of task a succeeded 2 times",
    ),
    "an epoch is used again": (
        lambda: placed().row("lost", 1, HERE).given(1, THERE, event_id="x"),
        "double: epoch 1 of task a was given 2 times",
    ),
    "what is published was decided anew": (
        lambda: running().heard("a-1-again"),
        "double: two events speak of epoch 1 of task a",
    ),
    "an event is written twice": (
        lambda: running().row("lost", 1, HERE).given(2, THERE, event_id="a-1"),
        "double: event a-1 is 2 times",
    ),
    "a request is taken twice": (lambda: begun().submitted(), "double: task a was submitted 2 times"),
    "a task that begins again keeps its old row": (
        lambda: with_evidence(with_evidence(begun(), "tabled", 1, "a", "waiting"), "tabled", 2, "a", "failed"),
        "double: task a has 2 rows",
    ),
    "a table does not follow the ledger": (
        lambda: with_evidence(placed().done(), "tabled", 1, "a", "running"),
        "lost: task a is running, says its row, and succeeded by the ledger",
    ),
    "a table is ahead of the ledger": (
        lambda: with_evidence(running(), "tabled", 1, "a", "succeeded"),
        "lost: task a is succeeded, says its row, and not over by the ledger",
    ),
    "two tasks are given one GPU": (
        lambda: begun("b", running()).given(1, HERE, "b"),
        "over: GPU 0 of node n in r0 was given 2000",
    ),
    "a node's CPUs are given twice": (
        lambda: begun().given(workers=3),
        "over: node n in r0 was given 12 CPUs",
    ),
    "a node's memory is given twice": (
        lambda: begun().given(workers=3),
        "over: node n in r0 was given 48 GB",
    ),
    "a GPU carries two runs, whatever the ledger says": (
        lambda: begun("b", running()).machine("begin", 1, HERE, "b").machine("stopped"),
        "over: GPU 0 of node n in r0 carried 2000",
    ),
    "a GPU that is not there is given": (lambda: begun().given(device=2), "which is not there"),
    "a second copy is made of a single task": (
        lambda: placed().given(2, THERE, copy=1),
        "over: task a had 2 copies at once",
    ),
    "published without a commit": (lambda: begun().heard("ghost"), "orphan: event ghost tells r0 of task a"),
    "something runs that nobody assigned": (lambda: begun().machine("begin", 7), "orphan: task a ran in r0 in epoch 7"),
    "an agent's file tells of what nobody assigned": (lambda: begun().ran(9), "orphan: task a ran in r0 in epoch 9"),
    "a given-up task is held for ever": (
        lambda: running().row("revoked", 1, HERE),
        "orphan: r0 holds task a in epoch 1",
    ),
    "a success is made up": (
        lambda: running().row("succeeded", 1, HERE),
        "orphan: task a succeeded in r0 in epoch 1",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_each_break_is_found(what: str) -> None:
    broken, words = BREAKS[what]
    found = broken().found()
    assert any(words in violation for violation in found), found


def test_every_rule_has_its_break() -> None:
    evidences = [broken().evidence for broken, _ in BREAKS.values()]
    rules = [rule for rule in RULES if rule not in GRAPH_RULES]  # those have their own test
    unbroken = {rule.words for rule in rules if not any(one.db.execute(rule.sql).fetchall() for one in evidences)}
    assert unbroken == set()


def test_a_resized_task_takes_its_new_room_for_its_old() -> None:
    books = Books()
    books.asked().submitted().given(1).given(2).held(2)
    assert books.found() == []
