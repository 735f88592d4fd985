"""The record of a long campaign of the line: how far it is and on which code, so that it may stop and go on later.

It speaks for the code it was run on and for no other: for every module of the product that the played line imports.
"""

import importlib.util
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from thalweg.proof.campaign import FailedHistory, LineCampaign
from thalweg.sync.proof.campaign_record import AnyCampaignRecord, follows, read_any_record
from thalweg.sync.proof.code_digest import digest_of, modules_from

_NAME: Final = "thalweg."
_ROOTS: Final = ("proof.stage", "proof.books", "proof.histories")


class LineRecord(AnyCampaignRecord, frozen=True, kw_only=True):
    """What has been played so far of a campaign of the line."""

    deaths: int = 0
    """Processes killed at a point of their own work."""
    died_at: dict[str, int] = msgspec.field(default_factory=dict)
    happened: dict[str, int] = msgspec.field(default_factory=dict)
    tasks: dict[str, int] = msgspec.field(default_factory=dict)
    failures: tuple[FailedHistory, ...] = ()


def extended(record: LineRecord, run: LineCampaign, now: datetime) -> LineRecord:
    """Add the next histories.

    Raises:
        ValueError: they do not follow the last one.
    """
    follows(record, run.seed)
    return msgspec.structs.replace(
        record,
        done=record.done + run.histories,
        failed=record.failed + run.failed,
        deaths=record.deaths + run.deaths,
        died_at=_sum(record.died_at, run.died_at),
        happened=_sum(record.happened, run.happened),
        tasks=_sum(record.tasks, run.tasks),
        failures=(*record.failures, *run.failures),
        running_seconds=round(record.running_seconds + run.seconds, 1),
        processes=max(record.processes, run.processes),
        ended_at=now,
    )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict((Counter(one) + Counter(other)).most_common())


def read_record(path: Path, histories: int, seed: int) -> LineRecord | None:
    """Read the record of a campaign of the line (`read_any_record`)."""
    return read_any_record(path, LineRecord, histories, seed, code_digest())


@cache
def code_digest() -> str:
    """Return a digest of what is played."""
    return digest_of(_ROOTS, _NAME, _source_of)


def played_modules() -> list[str]:
    """Return the product's modules that the played line imports, itself included."""
    return modules_from(_ROOTS, _NAME, _source_of)


def _source_of(name: str) -> Path:
    """Find a module's file; of a package, its folder."""
    spec = importlib.util.find_spec(_NAME + name)
    assert spec is not None, name
    return Path(spec.origin or "") if spec.submodule_search_locations is None else Path(spec.origin or "").parent
