"""The record of the mistakes that were tried: one file, written after each, gone on with after a stop."""

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from thalweg.benchmarks.mutants.mutations import Mutation, mutations

FOUND, SURVIVED, UNREACHED, EQUIVALENT = "found", "survived", "unreached", "equivalent"
OUTCOMES: Final = (FOUND, SURVIVED, UNREACHED)


@dataclass(slots=True, kw_only=True)
class Entry:
    """One mistake, and what came of it."""

    number: int
    room: str
    path: str
    line: int
    kind: str
    before: str
    after: str
    text: str
    """The line that it is in, as it was: by it the place is found again when lines above have changed."""
    outcome: str = ""
    """`found` or `survived` by the tests that execute the line, `unreached` where no test does; empty: not tried."""
    by: str = ""
    seconds: float = 0.0
    ran: int = 0
    left_out: int = 0
    """Tests that were not run because they would have taken too long."""
    later: str = ""
    """The test that finds it now: one that was missing, or one that needs a broker or Spark."""
    later_stage: str = ""
    """`written` where the test was missing, `broker` where it needs more than a process."""
    judgement: str = ""
    """Of a survivor: why no test can find it, or what is missing."""
    equivalent: bool = False
    """Judged to change nothing that anybody could see."""
    redrawn: bool = False
    """Drawn later, in the place of one whose line had gone from the tree before it was tried."""

    def mutation_in(self, source: str) -> Mutation | None:
        """Find the mistake's place in the text as it is now; None where it is gone."""
        lines = source.splitlines()
        fitting = [
            one
            for one in mutations(source)
            if (one.kind, one.before, one.after) == (self.kind, self.before, self.after)
            and lines[one.line - 1].strip() == self.text
        ]
        return min(fitting, key=lambda one: abs(one.line - self.line), default=None)


@dataclass(slots=True, kw_only=True)
class Record:
    """All of a sample."""

    seed: int
    asked: int
    lines: dict[str, int]
    """Of code, by room."""
    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read what was written."""
        known = json.loads(path.read_text(encoding="utf-8"))
        known.pop("summary", None)
        return msgspec.convert(known, cls)

    def write(self, path: Path) -> None:
        """Write all of it, at once or not at all."""
        document = {"summary": self.summary(), **asdict(self)}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        fresh.replace(path)

    def of(self, number: int) -> Entry:
        """Find a mistake by its number."""
        (found,) = (entry for entry in self.entries if entry.number == number)
        return found

    def summary(self) -> dict[str, Any]:
        """Count; shares are of the mistakes that were tried."""
        tried = [entry for entry in self.entries if entry.outcome]
        return {
            "tried": len(tried),
            **counted(tried),
            "by_room": {room: counted(of) for room in self.lines if (of := [e for e in tried if e.room == room])},
            "by_kind": {
                kind: counted([entry for entry in tried if entry.kind == kind])
                for kind in sorted({entry.kind for entry in tried})
            },
        }


@contextmanager
def changing(path: Path) -> Iterator[Record]:
    """Give the record as it is now, and write it after the block: several processes try and judge at the same time."""
    folder = os.open(path.parent, os.O_RDONLY)  # the file itself is replaced: a lock on it would be on an old one
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        record = Record.read(path)
        yield record
        record.write(path)
    finally:
        os.close(folder)


def counted(entries: Sequence[Entry]) -> dict[str, Any]:
    """Count outcomes, first as the tests were, then with those that were written, then with broker and Spark."""
    outcomes = Counter(entry.outcome for entry in entries)
    written = [entry for entry in entries if entry.later_stage == "written"]
    elsewhere = [entry for entry in entries if entry.later_stage == "broker"]
    found = outcomes[FOUND]
    return {
        **{outcome: outcomes[outcome] for outcome in OUTCOMES},
        "found_percent": _percent(found, entries),
        "found_with_tests_written_since_percent": _percent(found + len(written), entries),
        "found_with_broker_and_spark_percent": _percent(found + len(written) + len(elsewhere), entries),
        "judged_equivalent": sum(entry.equivalent for entry in entries),
    }


def _percent(part: int, of: Iterable[Entry]) -> float:
    return round(100 * part / max(len(list(of)), 1), 1)
