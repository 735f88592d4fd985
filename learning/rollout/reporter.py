"""An edge's side of a roll-out: what a model server asks and tells, while the records go to and fro.

    reporter = Reporter("digits", "edge-7", read=replica.read, write=replica.put_value)
    wanted = reporter.desired()                        # what to serve; None: nothing is desired yet
    arm = reporter.arm(request_id)                     # "new" or "last": which version is to answer
    reporter.answered(arm, latency_ms=3.1, odd=False)  # or reporter.failed(arm)
    reporter.judged(arm, wrong=True)                   # later, of the answers whose truth becomes known
    reporter.reported(now_ms)                          # now and then: says how it stands

Counts are kept in the record itself: a server that starts again goes on from what it had reported. Not for several
threads.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from thalweg.learning.rollout.records import (
    ArmCounts,
    DesiredModel,
    ReportedModel,
    RolloutRecordError,
    desired_key,
    read_desired,
    read_reported,
    reported_key,
    value_of,
)
from thalweg.learning.rollout.waves import answers

Arm = Literal["new", "last"]
Read = Callable[[str], Mapping[str, Any] | None]
"""Gives a record's value by its key, as a replica does."""
Write = Callable[[str, Mapping[str, Any]], object]
"""Takes a record's key and its value."""


class Reporter:
    """Of one model on one edge."""

    def __init__(self, model: str, edge: str, *, read: Read, write: Write) -> None:
        """Go on from what was reported, if anything was.

        Args:
            model: its name.
            edge: its name, one in all regions.
            read: gives records.
            write: takes them.
        """
        self._model, self._edge = model, edge
        self._read, self._write = read, write
        self._wanted: DesiredModel | None = None
        self.trouble: str | None = None
        """Why the record of what is desired cannot be obeyed; None: it can. What was desired before goes on."""
        self._number = 0
        self._beside: str | None = None
        self._counts: dict[Arm, ArmCounts] = {"new": ArmCounts(), "last": ArmCounts()}
        self._resume()

    def desired(self) -> DesiredModel | None:
        """Return what is to be served; with another roll-out, counts begin at 0."""
        value = self._read(desired_key(self._model, self._edge))
        if value is None:
            return self._wanted
        try:
            wanted = read_desired(value)
        except RolloutRecordError as error:
            self.trouble = str(error)
            return self._wanted
        self.trouble = None
        if wanted.number != self._number:
            self._number, self._beside = wanted.number, None
            self._counts = {"new": ArmCounts(), "last": ArmCounts()}
        if wanted.beside is not None:
            self._beside = wanted.beside.sha256
        self._wanted = wanted
        return wanted

    def arm(self, request: str) -> Arm:
        """Say which version is to answer a request, by the request's id."""
        wanted = self._wanted
        if wanted is None or wanted.beside is None:
            return "last"
        return "new" if answers(wanted.number, self._edge, request, wanted.share) else "last"

    def answered(self, arm: Arm, *, latency_ms: float, odd: bool = False) -> None:
        """Count an answer.

        Args:
            arm: that was to answer, also where the other one did in its place.
            latency_ms: from the request to the answer.
            odd: whether input or answer are unlike what the version has learned from.
        """
        slow = self._wanted is not None and latency_ms > self._wanted.slow_ms
        self._add(arm, requests=1, slow=int(slow), odd=int(odd), latency_ms=latency_ms)

    def failed(self, arm: Arm) -> None:
        """Count a request that the version of an arm had no answer to."""
        self._add(arm, requests=1, failed=1)

    def judged(self, arm: Arm, *, wrong: bool) -> None:
        """Count an answer, counted before, whose truth has become known."""
        self._add(arm, judged=1, wrong=int(wrong))

    def reported(self, now_ms: int, *, version: str = "", sha256: str = "") -> ReportedModel:
        """Report, and return what was reported.

        Args:
            now_ms: the time.
            version: that is really served; empty while there is none.
            sha256: of its bytes.
        """
        said = ReportedModel(
            number=self._number,
            at_ms=now_ms,
            version=version,
            sha256=sha256,
            beside=self._beside,
            new=self._counts["new"],
            last=self._counts["last"],
        )
        read_reported(value_of(said))  # what nobody would take is not written
        self._write(reported_key(self._model, self._edge), value_of(said))
        return said

    def _add(self, arm: Arm, **more: float) -> None:
        if self._wanted is None or self._wanted.beside is None:
            return  # nothing is tried: there is nothing to compare
        held = value_of_arm(self._counts[arm])
        self._counts[arm] = ArmCounts(**{name: value + more.get(name, 0) for name, value in held.items()})

    def _resume(self) -> None:
        value = self._read(reported_key(self._model, self._edge))
        if value is None:
            return
        try:
            said = read_reported(value)
        except RolloutRecordError:
            return
        self._number, self._beside = said.number, said.beside
        self._counts = {"new": said.new, "last": said.last}


def value_of_arm(counts: ArmCounts) -> dict[str, Any]:
    """Write counts by their names."""
    return {name: getattr(counts, name) for name in ArmCounts.__struct_fields__}
