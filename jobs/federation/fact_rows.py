"""Facts of learning as rows of the table `learning`, and back."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.facts import Fact, FactKind, Place
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.secrecy.secret_terms import SecrecyTerms
from thalweg.sync.delta.contracts import LEARNING


def rows_of(facts: Sequence[Fact], first_number: int) -> pa.Table:
    """Write facts, numbered densely from the first one's number."""
    rows = [_row(fact, number) for number, fact in enumerate(facts, start=first_number)]
    return pa.Table.from_pylist(rows, schema=LEARNING.schema)


def facts_of(rows: Iterable[dict[str, Any]]) -> list[Fact]:
    """Read facts, in the order of their rows."""
    return [_fact(row) for row in rows]


def _row(fact: Fact, number: int) -> dict[str, Any]:
    place = fact.place
    return {
        "number": number,
        "at": fact.at_ms * 1_000,
        "kind": fact.kind.value,
        "model": fact.model,
        "participant": fact.participant or None,
        "region": fact.region or None,
        "round": fact.round_number,
        "version": fact.version,
        "turn": fact.turn,
        "samples": fact.samples,
        "sha256": fact.sha256 or None,
        "payload_bytes": fact.payload_bytes,
        "updates": fact.updates,
        "rule": fact.rule or None,
        "reason": fact.reason or None,
        "deadline_ms": fact.deadline_ms,
        "called": json.dumps(fact.called) if fact.called else None,
        "epsilon": fact.epsilon,
        "public_key": fact.public_key or None,
        "metrics": json.dumps(dict(fact.metrics), sort_keys=True) if fact.metrics else None,
        "run": json.dumps(asdict(fact.spec), sort_keys=True) if fact.spec is not None else None,
        "topic": place.topic if place is not None else None,
        "topic_partition": place.partition if place is not None else None,
        "topic_offset": place.offset if place is not None else None,
    }


def _fact(row: dict[str, Any]) -> Fact:
    place = None
    if row["topic"] is not None:
        place = Place(row["topic"], row["topic_partition"], row["topic_offset"])
    return Fact(
        kind=FactKind(row["kind"]),
        model=row["model"],
        at_ms=round(row["at"].timestamp() * 1_000),
        participant=row["participant"] or "",
        region=row["region"] or "",
        round_number=row["round"],
        version=row["version"],
        turn=row["turn"],
        samples=row["samples"],
        sha256=row["sha256"] or "",
        payload_bytes=row["payload_bytes"],
        updates=row["updates"],
        rule=row["rule"] or "",
        reason=row["reason"] or "",
        deadline_ms=row["deadline_ms"],
        called=tuple(json.loads(row["called"])) if row["called"] else (),
        epsilon=row["epsilon"],
        public_key=row["public_key"] or "",
        metrics=json.loads(row["metrics"]) if row["metrics"] else {},
        spec=_spec(json.loads(row["run"])) if row["run"] else None,
        place=place,
    )


def _spec(fields: dict[str, Any]) -> RunSpec:
    terms, secrecy = fields.pop("privacy"), fields.pop("secrecy", None)  # earlier rows have none
    return RunSpec(
        **fields,
        privacy=PrivacyTerms(**terms) if terms is not None else None,
        secrecy=SecrecyTerms(**secrecy) if secrecy is not None else None,
    )
