"""What a micro-batch cannot digest is set apart, record by record, so that no record stops the others.

Taking a record has two halves. *Judging* reads the job's state and changes nothing: where it raises, the record is
refused on the spot and the batch goes on. *Applying* changes the state: where that raises, half of the effect may
stand, and nothing that the state says can be believed any more. The record's place is noted and the job's life ends;
the next one makes its state anew from what was committed and refuses the record before it looks at it. So a record
costs at most one life, whatever it holds, and none of its effect stays.

Notes live as long as whoever starts the query keeps them (`host`), which is as long as the process. After that a record
that is still in an unfinished batch is found once more.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

Outcome = TypeVar("Outcome")
Part = TypeVar("Part")

log = logging.getLogger("thalweg.isolation")


class RecordPlace(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Indigestible:
    """A record that cannot be taken, and why."""

    reason: str


class Applying:
    """Around what changes the state; no generator, because every record passes through one or two of these."""

    __slots__ = ("_note", "_place")

    def __init__(self, note: Callable[[RecordPlace, Exception], object], place: RecordPlace) -> None:
        self._note, self._place = note, place

    def __enter__(self) -> None:
        """Nothing is noted before something fails."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, MemoryError):
            self._note(self._place, error)


class Isolation:
    """Remembers the records that cannot be digested."""

    def __init__(self) -> None:
        self._noted: dict[RecordPlace, Indigestible] = {}

    def judge(self, place: RecordPlace, judge: Callable[[], Outcome]) -> Outcome | Indigestible:
        """Judge a record, unless it is known to be indigestible.

        Args:
            place: of the record.
            judge: reads the state and changes nothing of it.
        """
        noted = self._noted.get(place)
        if noted is not None:
            return noted
        try:
            return judge()
        except MemoryError:
            raise  # says nothing about this record
        except Exception as error:
            return self._note(place, error)

    def applying(self, place: RecordPlace) -> "Applying":
        """Around what changes the state; a failure is noted for the next life and ends this one."""
        return Applying(self._note, place)

    def blame(self, parts: Iterable[tuple[RecordPlace, Part]], step: Callable[[Part], object]) -> bool:
        """Find the records whose part makes a step fail that failed for all of them together, and note them.

        Args:
            parts: what each record contributes.
            step: may be done for one part alone.

        Returns:
            Whether any was found; then the life that has applied them must end.
        """
        found = False
        for place, part in parts:
            try:
                step(part)
            except Exception as error:
                self._note(place, error)
                found = True
        return found

    def _note(self, place: RecordPlace, error: Exception) -> Indigestible:
        reason = f"it cannot be processed ({type(error).__name__}: {str(error)[:500]})"
        log.error(
            "a record is set apart: it goes to the dead-letter topic, the others go on",
            extra={"fields": {**place._asdict(), "reason": reason}},
            exc_info=error,
        )
        return self._noted.setdefault(place, Indigestible(reason=reason))
