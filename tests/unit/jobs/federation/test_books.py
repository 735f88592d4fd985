"""Rounds as the tables tell them: each is over in one of three ways, when and why, and none that was over before."""

from datetime import UTC, datetime
from typing import Any

import pytest

from thalweg.jobs.federation.books import LearningBooks
from thalweg.learning.rounds.facts import Fact, FactKind
from thalweg.learning.rounds.run_spec import RunSpec

SPEC = RunSpec(parameters=20, rounds=2, quorum=1, begin_with=1, deadline_ms=60_000)
BEGAN_MS = 1_700_000_000_000
US = 1_000


def book_of(*facts: tuple[FactKind, dict[str, Any]]) -> LearningBooks:
    """Facts a second apart, from the start of the run on."""
    books = LearningBooks()
    books.take(Fact(kind=FactKind.STARTED, model="m", at_ms=BEGAN_MS, spec=SPEC))
    for seconds, (kind, of) in enumerate(facts, 1):
        books.take(Fact(kind=kind, model=of.pop("model", "m"), at_ms=BEGAN_MS + 1_000 * seconds, **of))
    return books


@pytest.mark.parametrize(
    ("kind", "state"), [(FactKind.CLOSED, "closed"), (FactKind.MISSED, "missed"), (FactKind.ENDED, "ended")]
)
def test_a_round_is_over_when_and_as_the_fact_says(kind: FactKind, state: str) -> None:
    books = book_of((FactKind.OPENED, {"round_number": 1, "called": ("a", "b")}), (kind, {"round_number": 1}))
    row = books.rounds["m", 1]
    assert (row["state"], row["called"]) == (state, 2)
    assert (row["opened_at"], row["closed_at"]) == ((BEGAN_MS + 1_000) * US, (BEGAN_MS + 2_000) * US)
    assert datetime.fromtimestamp(row["closed_at"] / 1e6, UTC).year == 2023


def test_the_end_of_a_run_ends_its_open_round_alone() -> None:
    books = book_of(
        (FactKind.OPENED, {"round_number": 1, "called": ("a",)}),
        (FactKind.CLOSED, {"round_number": 1, "version": 1, "updates": 1}),
        (FactKind.OPENED, {"round_number": 2, "called": ("a",)}),
    )
    books.take(Fact(kind=FactKind.STARTED, model="other", at_ms=BEGAN_MS, spec=SPEC))
    books.take(Fact(kind=FactKind.OPENED, model="other", at_ms=BEGAN_MS, round_number=1, called=("a",)))
    books.changed["rounds"].clear()
    books.take(Fact(kind=FactKind.ENDED, model="m", at_ms=BEGAN_MS + 9_000, reason="asked to stop"))
    assert {key: row["state"] for key, row in books.rounds.items()} == {
        ("m", 1): "closed", ("m", 2): "ended", ("other", 1): "open",
    }  # fmt: skip
    ended = books.rounds["m", 2]
    assert (ended["closed_at"], ended["reason"]) == ((BEGAN_MS + 9_000) * US, "asked to stop")
    assert books.changed["rounds"] == {("m", 2)}, "and nothing else is written again"
