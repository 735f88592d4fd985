"""The record of a long campaign: how far it is, on which code, so that it may stop at any time and go on later.

A record speaks for the code it was run on and for no other: it carries a digest of every module that the simulator
uses, comments, layout and docstrings left out, and is not continued with different code.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from thalweg.sync.proof.campaign import Campaign, FoundFailure
from thalweg.sync.proof.code_digest import digest_of, modules_from

_ROOM: Final = Path(__file__).parent.parent
_NAME: Final = "thalweg.sync."
_ROOTS: Final = ("proof.simulator", "proof.histories")


class RecordUnusableError(Exception):
    """The file cannot be continued; the message says why."""


class AnyCampaignRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the record of every campaign says, whatever is played."""

    histories: int
    """Wanted."""
    seed: int
    """Of the first."""
    done: int = 0
    """Histories of the seeds `seed` to `seed + done - 1`."""
    failed: int = 0
    running_seconds: float = 0.0
    """Pauses left out."""
    processes: int = 0
    begun_at: datetime
    ended_at: datetime
    code: str
    """Digest of the modules that are played."""
    commit: str | None
    """Of the working copy when it began, where there is one."""
    machine: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Say whether everything wanted was played."""
        return self.done == self.histories


AnyRecord = TypeVar("AnyRecord", bound=AnyCampaignRecord)


class CampaignRecord(AnyCampaignRecord, frozen=True, kw_only=True):
    """What has been run so far of a campaign of the sync plane."""

    failures: tuple[FoundFailure, ...] = ()
    histories_per_second: float = 0.0
    happened: dict[str, int] = {}


def extended(record: CampaignRecord, run: Campaign, now: datetime) -> CampaignRecord:
    """Add the next histories.

    Raises:
        ValueError: They do not follow the last one.
    """
    follows(record, run.seed)
    done, seconds = record.done + run.histories, record.running_seconds + run.seconds
    return msgspec.structs.replace(
        record,
        done=done,
        failed=record.failed + run.failed,
        failures=(*record.failures, *run.failures),
        running_seconds=round(seconds, 1),
        histories_per_second=round(done / seconds, 1) if seconds else 0.0,
        processes=max(record.processes, run.processes),
        happened={name: count + record.happened.get(name, 0) for name, count in run.happened.items()},
        ended_at=now,
    )


def follows(record: AnyCampaignRecord, seed: int) -> None:
    """See to it that histories from a seed on are the next of a record.

    Raises:
        ValueError: they are not.
    """
    if seed != record.seed + record.done:
        raise ValueError(f"histories from seed {seed} do not follow seed {record.seed + record.done - 1}")


def read_any_record(path: Path, kind: type[AnyRecord], histories: int, seed: int, code: str) -> AnyRecord | None:
    """Read the record of a campaign; None where there is no file.

    Args:
        path: of the record.
        kind: of the campaign.
        histories: wanted.
        seed: of the first.
        code: digest of what is played now.

    Raises:
        RecordUnusableError: it is no record, of another campaign, or of other code.
    """
    if not path.exists():
        return None
    try:
        record = msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise RecordUnusableError(f"{path} is no record of a campaign ({error}); name another file") from error
    if (record.histories, record.seed) != (histories, seed):
        raise RecordUnusableError(
            f"{path} is of {record.histories} histories from seed {record.seed}, not of {histories} from seed {seed}; "
            "name another file"
        )
    if record.code != code:
        raise RecordUnusableError(f"{path} was begun with other code; remove it and begin anew")
    return record


def read_record(path: Path, histories: int, seed: int) -> CampaignRecord | None:
    """Read the record of a campaign of the sync plane (`read_any_record`)."""
    return read_any_record(path, CampaignRecord, histories, seed, code_digest())


def write_record(path: Path, record: msgspec.Struct) -> None:
    """Write the record whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    unfinished.replace(path)


# ---- the code that a record speaks for ---------------------------------------------------------------------------


def code_digest() -> str:
    """Return a digest of what the simulator runs."""
    return digest_of(_ROOTS, _NAME, _path)


def simulated_modules() -> list[str]:
    """Return the modules of this room that the simulator and its histories import, themselves included."""
    return modules_from(_ROOTS, _NAME, _path)


def _path(name: str) -> Path:
    return _ROOM / f"{name.replace('.', '/')}.py"
