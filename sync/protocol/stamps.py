"""Stamps: when a region said something, and where that stands in the order everybody agrees on.

A stamp is a hybrid logical clock reading (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014): the wall clock in
milliseconds, a counter for readings within one millisecond, and the region as the last tie-break, so that any two
stamps are ordered the same way everywhere. Beside it stands the writer's dense sequence within its epoch, which
tells lost and repeated messages, and the version the writer gave the entity.

Everything here is a value or a pure function; the wall clock is always an argument.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, NewType

import msgspec

Actor = NewType("Actor", str)  # one writing life of a region: "<region>@<epoch>"

# Largest integer every JSON reader keeps exactly; a counter above it would compare differently in another language.
MAX_COUNTER = 2**53 - 1
MAX_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, the last moment datetime and SQL timestamps can show
MAX_REGION_CHARS = 180
# "@" and "#" separate the parts of an actor; blanks and control characters would hide in logs.
REGION_PATTERN = re.compile(r"[^\s@#\x00-\x1f]+")


class StampError(ValueError):
    """A stamp, or what should become one, is missing a part or has a wrong one."""


class Hlc(NamedTuple):
    """A clock reading. Tuples compare in exactly the total order we need: ms, counter, region."""

    ms: int
    counter: int
    region: str


ZERO = Hlc(0, 0, "")


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """A clock reading with the writer's position.

    `epoch` numbers the lives of a region's store (a store lost and made anew begins the next); `seq` is dense within
    (region, epoch), starting at 1; 0 means the writer does not number its messages. `version` is the entity's own.
    """

    ms: int
    counter: int
    region: str
    epoch: int = 0
    seq: int = 0
    version: int = 0

    @property
    def hlc(self) -> Hlc:
        """The part that orders."""
        return Hlc(self.ms, self.counter, self.region)

    @property
    def actor(self) -> Actor:
        """Who wrote, for version vectors."""
        return actor_of(self.region, self.epoch)


# Plain producers have no epoch: theirs is the topic partition they wrote to. A store's epoch is the millisecond it
# began, so the two never meet.
FIRST_STORE_EPOCH = 1_000_000


@lru_cache(maxsize=4_096)
def actor_of(region: str, epoch: int) -> Actor:
    """Name one writing life of a region."""
    return Actor(f"{region}@{epoch}")


def is_plain(actor: str) -> bool:
    """Say whether the actor is a partition that plain producers write to."""
    return int(actor[actor.rindex("@") + 1 :]) < FIRST_STORE_EPOCH


def checked_stamp(stamp: Stamp) -> Stamp:
    """Return the stamp unchanged.

    Raises:
        StampError: A part is out of range.
    """
    in_range = (
        0 <= stamp.ms <= MAX_MS
        and 0 <= stamp.counter <= MAX_COUNTER
        and 0 <= stamp.epoch <= MAX_COUNTER
        and 0 <= stamp.seq <= MAX_COUNTER
        and 0 <= stamp.version <= MAX_COUNTER
    )
    if in_range and _is_region(stamp.region):
        return stamp
    _check_range("ms", stamp.ms, MAX_MS)
    _check_range("counter", stamp.counter, MAX_COUNTER)
    _check_range("epoch", stamp.epoch, MAX_COUNTER)
    _check_range("seq", stamp.seq, MAX_COUNTER)
    _check_range("version", stamp.version, MAX_COUNTER)
    check_region(stamp.region)
    return stamp


def check_region(region: str) -> None:
    """Raise StampError unless the name can be part of a topic name and of an actor."""
    if not _is_region(region):
        raise StampError(
            f"region {region[:140]!r} is not a region name; "
            f"allowed are 1 to {MAX_REGION_CHARS} characters without blanks, @ and #"
        )


@lru_cache(maxsize=4_096)  # asked for every stamp; regions are few
def _is_region(region: str) -> bool:
    return len(region) <= MAX_REGION_CHARS and REGION_PATTERN.fullmatch(region) is not None


def _check_range(part: str, seen: int, largest: int) -> None:
    if not 0 <= seen <= largest:
        raise StampError(f"stamp {part} is {seen}; allowed is 0 to {largest}")


# ---- the clock -------------------------------------------------------------------------------------------------


def tick(last: Hlc, now_ms: int, region: str) -> Hlc:
    """Return the next reading: after `last` whatever the wall clock says, and never behind the wall clock.

    Keeping `last` durably makes readings monotonic across restarts and backward jumps of the wall clock.
    """
    if now_ms > last.ms:
        return Hlc(now_ms, 0, region)
    if last.counter >= MAX_COUNTER:
        return Hlc(last.ms + 1, 0, region)
    return Hlc(last.ms, last.counter + 1, region)


def observed(last: Hlc, seen: Hlc) -> Hlc:
    """Return the reading after which the next tick is newer than both.

    Only for stamps that were admitted: a parked one must not push anybody's clock.
    """
    return last if (last.ms, last.counter) >= (seen.ms, seen.counter) else Hlc(seen.ms, seen.counter, last.region)


# ---- stamps ahead of time --------------------------------------------------------------------------------------


class FutureLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far ahead of the judge's clock a stamp may be.

    60 s is far more than a disciplined clock drifts and far less than a wrong time zone; 500 ms is what unsynchronised
    virtual machines show within hours, so it is worth a warning long before it hurts.
    """

    park_ms: int = 60_000
    warn_ms: int = 500
    refuse_ms: int = 86_400_000  # a day ahead is no clock error; waiting for it would hold memory for nothing


class Admission(StrEnum):
    """What happens to a stamp."""

    ACCEPT = "accept"
    WARN = "warn"  # accepted, and the region's clock is reported
    PARK = "park"  # kept aside until the judge's clock is within the limit
    REFUSE = "refuse"


DEFAULT_LIMITS = FutureLimits()


def admission(stamp_ms: int, now_ms: int, limits: FutureLimits = DEFAULT_LIMITS) -> Admission:
    """Judge one stamp against the judge's own clock."""
    ahead_ms = stamp_ms - now_ms
    if ahead_ms > limits.park_ms:
        return Admission.PARK if ahead_ms <= limits.refuse_ms else Admission.REFUSE
    return Admission.WARN if ahead_ms > limits.warn_ms else Admission.ACCEPT


# ---- forms -----------------------------------------------------------------------------------------------------


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def moment_ms(moment: datetime | str | int) -> int:
    """Return milliseconds since 1970 UTC.

    Raises:
        StampError: No time zone, or not a moment.
    """
    if isinstance(moment, bool):
        raise StampError(f"observed_at is {moment!r}; give ISO 8601 with a time zone, or milliseconds since 1970 UTC")
    if isinstance(moment, int):
        return moment
    at = _parsed(moment) if isinstance(moment, str) else moment
    if at.tzinfo is None:
        raise StampError(f"observed_at is {at.isoformat()} without a time zone; append Z or an offset like +02:00")
    return (at - _EPOCH) // _MILLISECOND


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise StampError(
            f"observed_at is {text[:64]!r}; give ISO 8601 with a time zone, like 2026-11-21T10:00:00.250Z"
        ) from None
