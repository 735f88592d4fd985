"""Facts of roll-outs as rows of the table `rollouts`, and back."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from thalweg.learning.rollout.facts import NOTHING, RolloutFact, RolloutKind, Tally
from thalweg.learning.rollout.plan import MEASURES, RolloutPlan
from thalweg.sync.delta.contracts import ROLLOUTS


def rows_of(facts: Sequence[RolloutFact], first_number: int) -> pa.Table:
    """Write facts, numbered densely from the first one's number."""
    rows = [_row(fact, number) for number, fact in enumerate(facts, start=first_number)]
    return pa.Table.from_pylist(rows, schema=ROLLOUTS.schema)


def facts_of(rows: Iterable[dict[str, Any]]) -> list[RolloutFact]:
    """Read facts, in the order of their rows."""
    return [_fact(row) for row in rows]


def _row(fact: RolloutFact, number: int) -> dict[str, Any]:
    return {
        "number": number,
        "at": fact.at_ms * 1_000,
        "kind": fact.kind.value,
        "model": fact.model,
        "rollout": fact.number,
        "version": fact.version or None,
        "stage": fact.stage if fact.stage >= 0 else None,
        "wave": fact.wave or None,
        "cut": fact.cut if fact.cut >= 0 else None,
        "edges": fact.edges,
        "heard": fact.heard,
        "edge": fact.edge or None,
        "rule": fact.rule or None,
        "reason": fact.reason or None,
        "outcomes": json.dumps(_named(fact.tally)) if fact.tally != NOTHING else None,
        "evidence": json.dumps(dict(fact.evidence), sort_keys=True) if fact.evidence else None,
        "wish": fact.wish or None,
        "plan": json.dumps(asdict(fact.plan), sort_keys=True) if fact.plan is not None else None,
    }


def _named(tally: Tally) -> dict[str, list[int]]:
    return {name: list(row) for name, row in zip(MEASURES, tally, strict=True)}


def _tally(named: dict[str, list[int]]) -> Tally:
    return tuple((row[0], row[1], row[2], row[3]) for row in (named[name] for name in MEASURES))


def _fact(row: dict[str, Any]) -> RolloutFact:
    return RolloutFact(
        kind=RolloutKind(row["kind"]),
        model=row["model"],
        number=row["rollout"],
        at_ms=round(row["at"].timestamp() * 1_000),
        version=row["version"] or "",
        stage=-1 if row["stage"] is None else row["stage"],
        wave=row["wave"] or 0.0,
        cut=-1 if row["cut"] is None else row["cut"],
        edges=row["edges"],
        heard=row["heard"],
        tally=_tally(json.loads(row["outcomes"])) if row["outcomes"] else NOTHING,
        evidence=json.loads(row["evidence"]) if row["evidence"] else {},
        edge=row["edge"] or "",
        rule=row["rule"] or "",
        reason=row["reason"] or "",
        wish=row["wish"] or "",
        plan=_plan(json.loads(row["plan"])) if row["plan"] else None,
    )


def _plan(fields: dict[str, Any]) -> RolloutPlan:
    return RolloutPlan(**{**fields, "waves": tuple(fields["waves"])})
