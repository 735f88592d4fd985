"""The ledger of learning in Delta: facts read back as they were, a second centre fences the first, tables follow."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from thalweg.federation.rehearsal import rehearse
from thalweg.jobs.federation.books import LearningBooks
from thalweg.jobs.federation.fact_rows import facts_of, rows_of
from thalweg.jobs.federation.ledger import DeltaLedger
from thalweg.jobs.federation.tables import FederationTables
from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.facts import Fact
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.query.sql.query import query
from thalweg.sync.delta.store import AnotherWriterError

SPEC = RunSpec(parameters=20, rounds=2, quorum=2, begin_with=2, deadline_ms=10**9)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fact, ...]:
    return rehearse(str(tmp_path_factory.mktemp("rehearsed")), SPEC, 2, 3, frozenset()).facts


def test_facts_are_read_back_as_they_were(facts: tuple[Fact, ...]) -> None:
    terms = PrivacyTerms(clip_norm=1, noise_multiplier=1, sample_rate=0.5, delta=1e-3, budget_epsilon=2)
    private = replace(facts[0], spec=replace(SPEC, codec="delta", privacy=terms), epsilon=1.5)
    told = [*facts, private]
    assert facts_of(rows_of(told, 1).to_pylist()) == told


def test_a_centre_that_was_overtaken_cannot_commit_any_more(facts: tuple[Fact, ...], tmp_path: Path) -> None:
    first = DeltaLedger(str(tmp_path))
    first.claim()
    first.append(facts[:3], 1)
    second = DeltaLedger(str(tmp_path))
    second.claim()
    with pytest.raises(AnotherWriterError):
        first.append(facts[3:4], 4)
    assert second.holds(3) and not second.holds(4)
    second.append(facts[3:], 4)
    assert tuple(DeltaLedger(str(tmp_path)).read()) == facts


def test_the_tables_say_what_the_facts_say(facts: tuple[Fact, ...], tmp_path: Path) -> None:
    books = LearningBooks()
    tables = FederationTables(str(tmp_path), books)
    for number, fact in enumerate(facts):
        books.take(fact)
        tables.write_if_due(number, idle=number % 5 == 0)
    tables.write_if_due(0, idle=True)
    rounds = query("SELECT round, state, called, accepted, version FROM rounds ORDER BY round", str(tmp_path))
    assert rounds.dicts() == [
        {"round": number, "state": "closed", "called": 2, "accepted": 2, "version": number} for number in (1, 2)
    ]
    members = query("SELECT participant, state, accepted FROM participants ORDER BY participant", str(tmp_path))
    assert members.dicts() == [{"participant": name, "state": "member", "accepted": 2} for name in ("p0", "p1")]
    versions = query("SELECT count(*) AS n FROM model_versions", str(tmp_path))
    assert versions.dicts() == [{"n": 3}]
