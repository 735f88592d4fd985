"""The two records of an edge, which the sync plane carries: what is desired of it, and what it reports.

They are values of records as any other: whoever reads the topic `replica`, or keeps a replica, has what is desired;
whoever writes to its region's `state` topic, or into its replica, reports. Each has one writer.

    rollout/MODEL/desired/EDGE    written by the roll-outs' process
    rollout/MODEL/reported/EDGE   written by the edge
    rollout/MODEL/wish            written by operators: start or stop

Everything read is checked: types, bounds, sums that go together, and no number that is not finite.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from thalweg.learning.rollout.plan import DIGEST, MARGINS, NAME, WAVES, RolloutPlan

PREFIX: Final = "rollout/"
MOST: Final = 2**53
"""Of any count: what JSON and a float hold exactly."""

Name = Annotated[str, msgspec.Meta(pattern=f"^{NAME}$")]
DigestText = Annotated[str, msgspec.Meta(pattern=f"^{DIGEST}$")]
Whole = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Moment = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]


class RolloutRecordError(ValueError):
    """A record's value is not what its key promises; the text says why."""


class ServedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a model, named by its bytes."""

    version: Name
    sha256: DigestText


class DesiredModel(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge is to serve. It replaces what was desired before, whole."""

    number: Whole
    """Of the roll-out; a report names it, and its counts begin at 0 with each."""
    serve: ServedVersion
    """The last good version. It answers everything that `beside` does not, and whatever `beside` cannot."""
    beside: ServedVersion | None
    """The new version, while it is tried; null where nothing is."""
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """Chance of a request that `beside` answers it, as if a coin fell (`waves.answers`); 0 where it is null."""
    slow_ms: Annotated[float, msgspec.Meta(gt=0, le=1e9)]
    """An answer after this is slow."""


class ArmCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one version has come to on one edge since the roll-out began there. Counts never fall."""

    requests: Whole = 0
    """That were given to it, answered or not."""
    failed: Whole = 0
    """Of them without an answer."""
    slow: Whole = 0
    """Of them answered after `slow_ms`."""
    odd: Whole = 0
    """Of them with an input or answer unlike what the version has learned from; 0 where nobody looks."""
    judged: Whole = 0
    """Answers whose truth became known. Which ones must not depend on the version."""
    wrong: Whole = 0
    """Of them wrong."""
    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=1e18)] = 0.0
    """Sum over the answers, for people: nothing is decided by it."""


class ReportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge says of itself."""

    number: Whole
    """Of the roll-out that is carried out; 0 before the first."""
    at_ms: Moment
    """When, by the edge's clock, milliseconds since 1970."""
    version: str
    """That it serves; empty while it has none."""
    sha256: str
    beside: str | None = None
    """Digest of the version that is tried there; null where none is."""
    new: ArmCounts = ArmCounts()
    """Of the version `beside`."""
    last: ArmCounts = ArmCounts()
    """Of the version it serves, since `beside` was tried: of the same requests, the others."""


class RolloutWish(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks for a model; a later wish replaces it."""

    wish: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """Names it: the same wish is obeyed once."""
    op: Literal["start", "stop"]
    version: str = ""
    sha256: str = ""
    waves: tuple[float, ...] = WAVES
    share: float = 0.5
    margins: dict[str, float] = msgspec.field(default_factory=lambda: dict(MARGINS))
    false_alarm: float = 0.01
    missed: float = 0.05
    soak_s: float = 43_200.0
    deadline_s: float = 604_800.0
    quorum: float = 0.5
    slow_ms: float = 1_000.0

    def plan(self, model: str, last: tuple[str, str]) -> RolloutPlan:
        """Make a plan of it.

        Args:
            model: the record's.
            last: version and digest of the last good one; empty where there is none.

        Raises:
            RolloutPlanError: it cannot be carried out.
        """
        plan = RolloutPlan(
            model=model,
            version=self.version,
            digest=self.sha256,
            last_version=last[0],
            last_digest=last[1],
            waves=self.waves,
            share=self.share,
            margins=self.margins,
            false_alarm=self.false_alarm,
            missed=self.missed,
            soak_s=self.soak_s,
            deadline_s=self.deadline_s,
            quorum=self.quorum,
            slow_ms=self.slow_ms,
        )
        plan.check()
        return plan


_Value = TypeVar("_Value", DesiredModel, ReportedModel, RolloutWish)


def desired_key(model: str, edge: str) -> str:
    """Name the record of what is desired."""
    return f"{PREFIX}{model}/desired/{edge}"


def reported_key(model: str, edge: str) -> str:
    """Name the record of what is reported."""
    return f"{PREFIX}{model}/reported/{edge}"


def wish_key(model: str) -> str:
    """Name the record of what operators ask."""
    return f"{PREFIX}{model}/wish"


def read_desired(value: Mapping[str, Any]) -> DesiredModel:
    """Read what is desired.

    Raises:
        RolloutRecordError: it is nothing that can be served.
    """
    found = _read(value, DesiredModel)
    if (found.beside is None) != (found.share == 0):
        raise RolloutRecordError(f"share {found.share:g}: allowed is 0 exactly where nothing is tried")
    return found


def read_reported(value: Mapping[str, Any]) -> ReportedModel:
    """Read what an edge reports.

    Raises:
        RolloutRecordError: it says what cannot be.
    """
    found = _read(value, ReportedModel)
    for name, arm in (("new", found.new), ("last", found.last)):
        for part, whole in (("failed", "requests"), ("slow", "requests"), ("odd", "requests"), ("wrong", "judged")):
            if getattr(arm, part) > getattr(arm, whole):
                raise RolloutRecordError(
                    f"{name}.{part} {getattr(arm, part)}: allowed are up to {getattr(arm, whole)}, its {whole}"
                )
        answered = arm.requests - arm.failed
        if arm.slow > answered or arm.judged > answered:
            raise RolloutRecordError(
                f"{name}: {arm.slow} slow and {arm.judged} judged answers: allowed are {answered}, "
                "the requests that have not failed"
            )
    return found


def read_wish(value: Mapping[str, Any]) -> RolloutWish:
    """Read what an operator asks.

    Raises:
        RolloutRecordError: it is no wish.
    """
    return _read(value, RolloutWish)


def value_of(record: DesiredModel | ReportedModel | RolloutWish) -> dict[str, Any]:
    """Write a record's value."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


def _read(value: Mapping[str, Any], kind: type[_Value]) -> _Value:
    if (where := _not_finite(value)) is not None:
        raise RolloutRecordError(f"{where}: allowed are finite numbers")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RolloutRecordError(str(error)) from error


def _not_finite(value: Any, at: str = "value") -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{at} {value}"
    if isinstance(value, Mapping):
        parts = [(f"{at}.{name}", inner) for name, inner in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{at}[{index}]", inner) for index, inner in enumerate(value)]
    else:
        return None
    return next((found for name, inner in parts if (found := _not_finite(inner, name)) is not None), None)
