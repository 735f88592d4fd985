"""The audit over a played line: real driver, ledger and agents. Sound, it finds nothing; broken on purpose, it does."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from thalweg.chaos.evidence import Evidence
from thalweg.chaos.rules import audit
from thalweg.proof.breaks import BREAKS
from thalweg.proof.histories import FILES_CHANGE, FaultHistory, history
from thalweg.proof.stage import PREFIX, Stage
from thalweg.proof.witness import RunEnd, RunKey, Witness
from thalweg.streams.contract.messages import AssignmentEvent
from thalweg.streams.contract.topics import ASSIGNMENTS, topic_name
from thalweg.sync.proof.mutants import broken

SOUND = 5
MOST_TRIED = 30
NOT_PLAYED = {"update", "region gone", *FILES_CHANGE}
"""Changed requests, and what ends without a rest, are for `place-sim`'s own books."""
CAUGHT = ("tell first", "old epoch", "run again", "two on one GPU")
"""Breaks of which the evidence of a live stack must tell."""


@dataclass(slots=True)
class NotingWitness(Witness):
    """Keeps a journal, as the machines of a chaos do."""

    journal: list[tuple[str, RunKey, list[tuple[str, int, int]]]] = field(default_factory=list)

    def begin(self, event: AssignmentEvent) -> None:
        seats = [
            (share.node_id, device, share.gpu_milli // len(share.devices) if share.gpu_milli else 1_000)
            for share in event.nodes
            for device in share.devices
        ]
        self.journal.append(("begin", (event.region, event.task_id, event.epoch), seats))
        Witness.begin(self, event)

    def end(self, key: RunKey, how: RunEnd) -> None:
        self.journal.append((how if how in ("succeeded", "failed") else "stopped", key, []))
        Witness.end(self, key, how)


def evidence_of(stage: Stage, witness: NotingWitness) -> Evidence:
    """Gather what a played history has left, as `Chaos` does of a stack."""
    evidence = Evidence(None)
    evidence.read_fleet({(f.region, name): node for f in stage.fleets for name, node in f.nodes.items()})
    evidence.read_tables(stage.settings.warehouse.path)
    evidence.read_agents([region.folder for region in stage.regions])
    evidence.add("asked", {(r["task_id"],) for _, r in stage.asked if r.get("op", "submit") == "submit"})
    evidence.add("cancels", {(r["task_id"],) for _, r in stage.asked if r.get("op") == "cancel"})
    for fleet in stage.fleets:
        told: list[dict[str, Any]] = [
            json.loads(record.value or b"")
            for record in stage.broker.topics[topic_name(ASSIGNMENTS, PREFIX, fleet.region)]
        ]
        names = ("event_id", "type", "task_id", "epoch", "region")
        evidence.add("heard", (tuple(event[name] for name in names) for event in told))
    evidence.add("machines", ((n, "all", n, what, *key) for n, (what, key, _) in enumerate(witness.journal)))
    evidence.add("machine_seats", ((n, *seat) for n, (*_, seats) in enumerate(witness.journal) for seat in seats))
    return evidence


def found(played: FaultHistory) -> list[str]:
    with TemporaryDirectory() as folder:
        stage = Stage(history=played, folder=Path(folder), witness_of=NotingWitness)
        assert isinstance(stage.witness, NotingWitness)
        try:
            stage.play()
            return list(audit(evidence_of(stage, stage.witness)).violations)
        finally:
            stage.close()


def histories() -> Iterator[FaultHistory]:
    seed = 0
    while True:
        drawn = history(seed)
        if not {act.what for act in drawn.acts} & NOT_PLAYED:
            yield drawn
        seed += 1


def test_of_a_sound_line_nothing_is_found() -> None:
    for _, played in zip(range(SOUND), histories(), strict=False):
        assert found(played) == [], played.seed


@pytest.mark.parametrize("name", CAUGHT)
def test_what_is_broken_on_purpose_is_found(name: str) -> None:
    (mistake,) = (one for one in BREAKS if one.name == name)
    with broken(mistake):
        assert any(_fails(played) for _, played in zip(range(MOST_TRIED), histories(), strict=False)), mistake.mistake


def _fails(played: FaultHistory) -> bool:
    try:
        return bool(found(played))
    except Exception:
        return False  # ended without its evidence: only what the audit finds counts here
