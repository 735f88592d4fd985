"""Rounds, participants and versions as people ask for them: rows folded from the facts, one change after another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thalweg.learning.rounds.facts import Fact, FactKind
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.secrecy.exchanges import MASKED

Row = dict[str, Any]
Rows = dict[tuple[str, Any], Row]


@dataclass(slots=True)
class LearningBooks:
    """What the tables hold, by key, and which rows have changed since they were last written."""

    rounds: Rows = field(default_factory=dict)
    participants: Rows = field(default_factory=dict)
    versions: Rows = field(default_factory=dict)
    changed: dict[str, set[tuple[str, Any]]] = field(
        default_factory=lambda: {"rounds": set(), "participants": set(), "versions": set()}
    )
    specs: dict[str, RunSpec] = field(default_factory=dict)

    def take(self, fact: Fact) -> None:
        """Note a fact."""
        if (note := _NOTES.get(fact.kind)) is not None:
            note(self, fact)

    def round_of(self, fact: Fact) -> Row:
        """Return the row of the fact's round."""
        return self._row("rounds", self.rounds, (fact.model, fact.round_number), "round", _NEW_ROUND)

    def participant_of(self, fact: Fact) -> Row:
        """Return the row of whoever the fact is of."""
        row = self._row("participants", self.participants, (fact.model, fact.participant), "participant", _NEW_MEMBER)
        row["heard_at"] = fact.at_ms * 1_000
        return row

    def add_version(self, fact: Fact, updates: int) -> None:
        """Note a version."""
        key = (fact.model, fact.version)
        self.versions[key] = {
            "model": fact.model,
            "version": fact.version,
            "sha256": fact.sha256,
            "round": fact.round_number,
            "made_at": fact.at_ms * 1_000,
            "updates": updates,
            "samples": fact.samples,
            "parameters": self.specs[fact.model].parameters,
            "epsilon": fact.epsilon,
        }
        self.changed["versions"].add(key)

    def _row(self, table: str, rows: Rows, key: tuple[str, Any], name: str, new: Mapping[str, Any]) -> Row:
        self.changed[table].add(key)
        return rows.setdefault(key, {"model": key[0], name: key[1], **new})


_NEW_ROUND = {
    "state": "open", "opened_at": None, "closed_at": None, "called": 0, "accepted": 0, "refused": 0, "samples": 0,
    "uplink_bytes": 0, "version": None, "sha256": None, "loss": None, "epsilon": None, "reason": None,
}  # fmt: skip
_NEW_MEMBER = {
    "region": None, "state": "never joined", "accepted": 0, "refused": 0, "samples": 0, "uplink_bytes": 0,
    "last_round": None, "last_rule": None, "heard_at": None,
}  # fmt: skip


def _started(books: LearningBooks, fact: Fact) -> None:
    assert fact.spec is not None
    books.specs[fact.model] = fact.spec
    books.add_version(fact, 0)


def _joined(books: LearningBooks, fact: Fact) -> None:
    books.participant_of(fact).update(state="member", region=fact.region)


def _left(books: LearningBooks, fact: Fact) -> None:
    books.participant_of(fact).update(state="left")


def _opened(books: LearningBooks, fact: Fact) -> None:
    books.round_of(fact).update(opened_at=fact.at_ms * 1_000, called=len(fact.called))


def _accepted(books: LearningBooks, fact: Fact) -> None:
    member = books.participant_of(fact)
    # Where updates are secret an update is four answers, of which one brings the numbers.
    counts = books.specs[fact.model].secrecy is None or fact.turn == MASKED
    member["accepted"] += counts
    member["samples"] += fact.samples
    member["uplink_bytes"] += fact.payload_bytes
    member["last_round"] = fact.round_number or None
    if fact.round_number:
        round_ = books.round_of(fact)
        round_["accepted"] += counts


def _refused(books: LearningBooks, fact: Fact) -> None:
    """Count refusals of those who are known only: whoever writes nonsense makes rows of `learning`, not of these."""
    if (fact.model, fact.participant) in books.participants:
        member = books.participant_of(fact)
        member["refused"] += 1
        member["last_rule"] = fact.rule
        if (fact.model, fact.round_number) in books.rounds:
            books.round_of(fact)["refused"] += 1


def _closed(books: LearningBooks, fact: Fact) -> None:
    round_ = books.round_of(fact)
    if not round_["called"]:  # asynchronous: its updates name no round
        round_["accepted"] = fact.updates
    round_.update(
        state="closed",
        closed_at=fact.at_ms * 1_000,
        samples=fact.samples,
        uplink_bytes=fact.payload_bytes,
        version=fact.version,
        sha256=fact.sha256,
        loss=fact.metrics.get("loss"),
        epsilon=fact.epsilon,
    )
    books.add_version(fact, fact.updates)


def _missed(books: LearningBooks, fact: Fact) -> None:
    books.round_of(fact).update(state="missed", closed_at=fact.at_ms * 1_000, reason=fact.reason)


def _ended(books: LearningBooks, fact: Fact) -> None:
    for (model, number), row in books.rounds.items():
        if model == fact.model and row["state"] == "open":
            row.update(state="ended", closed_at=fact.at_ms * 1_000, reason=fact.reason)
            books.changed["rounds"].add((model, number))


_NOTES: Mapping[FactKind, Callable[[LearningBooks, Fact], None]] = {
    FactKind.STARTED: _started,
    FactKind.JOINED: _joined,
    FactKind.LEFT: _left,
    FactKind.OPENED: _opened,
    FactKind.ACCEPTED: _accepted,
    FactKind.REFUSED: _refused,
    FactKind.CLOSED: _closed,
    FactKind.MISSED: _missed,
    FactKind.ENDED: _ended,
}
