"""The record of a long campaign: how far it is, on which code, so that it may stop at any time and go on later.

A record speaks for the code it was run on and for no other: it carries a digest of every module that the simulator
uses, comments, layout and docstrings left out, and is not continued with different code.
"""

import ast
import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from thalweg.sync.proof.campaign import Campaign, FoundFailure

_ROOM: Final = Path(__file__).parent.parent
_NAME: Final = "thalweg.sync."
_ROOTS: Final = ("proof.simulator", "proof.histories")


class RecordUnusableError(Exception):
    """The file cannot be continued; the message says why."""


class CampaignRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What has been run so far of a campaign."""

    histories: int  # wanted
    seed: int  # of the first history
    done: int = 0  # histories of the seeds `seed` to `seed + done - 1`
    failed: int = 0
    failures: tuple[FoundFailure, ...] = ()
    running_seconds: float = 0.0  # pauses left out
    histories_per_second: float = 0.0
    processes: int = 0
    happened: dict[str, int] = {}
    begun_at: datetime
    ended_at: datetime
    code: str  # digest of the simulated modules
    commit: str | None  # of the working copy when it began, where there is one
    machine: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Say whether everything wanted was run."""
        return self.done == self.histories


def extended(record: CampaignRecord, run: Campaign, now: datetime) -> CampaignRecord:
    """Add the next histories.

    Raises:
        ValueError: They do not follow the last one.
    """
    if run.seed != record.seed + record.done:
        raise ValueError(f"histories from seed {run.seed} do not follow seed {record.seed + record.done - 1}")
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


def read_record(path: Path, histories: int, seed: int) -> CampaignRecord | None:
    """Read the record of this campaign; None where there is no file.

    Raises:
        RecordUnusableError: It is no record, of another campaign, or of other code.
    """
    if not path.exists():
        return None
    try:
        record = msgspec.json.decode(path.read_bytes(), type=CampaignRecord)
    except msgspec.DecodeError as error:
        raise RecordUnusableError(f"{path} is no record of a campaign ({error}); name another file") from error
    if (record.histories, record.seed) != (histories, seed):
        raise RecordUnusableError(
            f"{path} is of {record.histories} histories from seed {record.seed}, not of {histories} from seed {seed}; "
            "name another file"
        )
    if record.code != code_digest():
        raise RecordUnusableError(f"{path} was begun with other code; remove it and begin anew")
    return record


def write_record(path: Path, record: CampaignRecord) -> None:
    """Write the record whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    unfinished.replace(path)


# ---- the code that a record speaks for ---------------------------------------------------------------------------


def code_digest() -> str:
    """Return a digest of what the simulator runs."""
    found = hashlib.blake2b(digest_size=16)
    for name in simulated_modules():
        found.update(name.encode() + b"\0" + ast.dump(_without_docstrings(_parsed(name))).encode() + b"\0")
    return found.hexdigest()


def simulated_modules() -> list[str]:
    """Return the modules of this room that the simulator and its histories import, themselves included."""
    found: set[str] = set()
    waiting = list(_ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(_parsed(name))
    return sorted(found)


def _parsed(name: str) -> ast.Module:
    return ast.parse(_path(name).read_text(encoding="utf-8"))


def _path(name: str) -> Path:
    return _ROOM / f"{name.replace('.', '/')}.py"


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_NAME):
            module = str(node.module).removeprefix(_NAME)
            is_file = _path(module).is_file()
            yield from [module] if is_file else (f"{module}.{alias.name}" for alias in node.names)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree
