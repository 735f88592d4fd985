"""Make a backup while the stack runs.

The order is what makes it consistent. Whatever goes on from something else is copied before it: checkpoints before the
tables that they have filled, folds before what they are folds of, agents before the ledger, and the broker's records
last. So the copy is a stack whose checkpoints are a little behind its tables, and its tables a little behind its
broker: what happens to every stack that loses its power, and what each start recognises.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from thalweg.agent.store import FILE_NAME as AGENT_FILE
from thalweg.backup.copying import Copier, Progress
from thalweg.backup.manifest import MANIFEST, BackupError, Manifest, manifest_text
from thalweg.backup.parts import copy_agent, copy_checkpoint, copy_records, copy_table
from thalweg.stack.broker import cluster_id
from thalweg.sync.clock import Clock
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.durable import make_folder, sync_folder
from thalweg.sync.ledger.ledger import DRIVER
from thalweg.sync.ledger.snapshot import FILE_NAME as SNAPSHOT

PARTS: Final = ("checkpoints", "agents", "warehouse", "broker")
"""Of a state folder, in the order in which they are copied. What else lies there is made anew by whoever needs it."""

COPIED_LAST: Final = (
    "sync_regions", "sync_refused", "sync_gaps", "records", "conflicts",
    "quarantine", "telemetry", "tasks", "tasks_archive", "decisions",
)  # fmt: skip
"""Each is written before the ones to its left, or they are made of it, so it must not be older in the copy."""

_PACKAGES: Final = ("deltalake", "pyspark", "delta-spark", "kafka-python")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPlaces:
    """Where the parts of a stack lie, which settings may have put outside of its state folder."""

    state: Path
    warehouse: Path
    checkpoints: Path

    def missing(self) -> bool:
        """Tell whether there is nothing to copy."""
        return not any(place.is_dir() for place in (self.warehouse, self.checkpoints, self.state / "broker"))


@dataclass(slots=True)
class _Found:
    """What was copied, as it is learned."""

    checkpoints: dict[str, int | None] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    agents: list[str] = field(default_factory=list)
    ledger: tuple[str, int, int | None] | None = None


def make_backup(
    places: StackPlaces,
    target: Path,
    *,
    now_ms: int,
    with_records: bool = True,
    steady: Clock,
    progress: Progress = lambda _: None,
) -> Manifest:
    """Copy a stack into a new folder, while it runs or not, and return what was copied.

    Args:
        places: of the stack.
        target: made by this; nothing may lie in it.
        now_ms: the wall clock.
        with_records: copy the broker's records, too, and not only which broker it was.
        steady: milliseconds, on a clock that never steps.
        progress: told of bytes as they are copied.

    Raises:
        BackupError: there is nothing to copy, or something in the way.
        OSError: the disk does not take it; what was written is left, and is no backup.
    """
    began = steady()
    if places.missing():
        raise BackupError(
            f"{places.state} holds no stack: neither warehouse nor checkpoints nor broker. Name its folder in "
            "THALWEG_STATE"
        )
    _begin(target, places)
    copier, found = Copier(target, progress), _Found()
    _checkpoints(copier, places, found)
    _agents(copier, places, found)
    _warehouse(copier, places, found)
    records = places.state / "broker" / "records"
    has_records = with_records and records.is_dir()
    if has_records:
        copy_records(copier, records, "broker/records")
    copier.settle()
    ledger_id, ledger_version, driver_epoch = found.ledger or (None, None, None)
    manifest = Manifest(
        made_ms=now_ms,
        seconds=(steady() - began) / 1_000,
        thalweg=version("thalweg"),
        packages=_packages(),
        cluster_id=cluster_id(places.state / "broker"),
        has_records=has_records,
        warehouse_id=ledger_id,
        ledger_version=ledger_version,
        driver_epoch=driver_epoch,
        tables=found.tables,
        checkpoints=found.checkpoints,
        agents=tuple(found.agents),
        files=dict(copier.marks),
    )
    _conclude(target, manifest)
    return manifest


def _begin(target: Path, places: StackPlaces) -> None:
    within = target.absolute()
    if any(within.is_relative_to(place.absolute()) for place in (places.state, places.warehouse, places.checkpoints)):
        raise BackupError(f"{target} lies in what is to be copied. Name a folder elsewhere, best on another disk")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        what = "a backup" if (target / MANIFEST).exists() else "something, perhaps a backup that was cut off"
        raise BackupError(f"{target} holds {what}. Name a new folder for each backup, or remove that one")
    make_folder(target.absolute())


def _checkpoints(copier: Copier, places: StackPlaces, found: _Found) -> None:
    for folder in _folders(places.checkpoints):
        if folder.name != "set-aside":
            found.checkpoints[folder.name] = copy_checkpoint(copier, folder, f"checkpoints/{folder.name}")


def _agents(copier: Copier, places: StackPlaces, found: _Found) -> None:
    for folder in _folders(places.state / "agents"):
        if (folder / AGENT_FILE).is_file():
            copy_agent(copier, folder / AGENT_FILE, f"agents/{folder.name}/{AGENT_FILE}")
            found.agents.append(folder.name)


def _warehouse(copier: Copier, places: StackPlaces, found: _Found) -> None:
    # Made of the ledger, and compared with it before it is used.
    files = [*sorted(places.warehouse.glob("*.origin.json")), places.warehouse / SNAPSHOT]
    for file in files:
        if file.is_file():
            copier.copy(file, f"warehouse/{file.name}")
    for folder in in_order([each for each in _folders(places.warehouse) if (each / "_delta_log").is_dir()]):
        table = copy_table(copier, folder, f"warehouse/{folder.name}")
        found.tables[folder.name] = table.version()
        if folder.name == DECISIONS.name:
            epoch = table.transaction_version(DRIVER)
            found.ledger = (str(table.metadata().id), table.version(), epoch)


def in_order(tables: Sequence[Path]) -> list[Path]:
    """Put tables into the order in which they are copied."""
    rank = {name: number for number, name in enumerate(COPIED_LAST)}
    return sorted(tables, key=lambda folder: (rank.get(folder.name, -1), folder.name))


def _folders(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(each for each in place.iterdir() if each.is_dir())


def _conclude(target: Path, manifest: Manifest) -> None:
    """Write the manifest, with which the copy becomes a backup, as the last thing that reaches the disk."""
    fresh = target / f"{MANIFEST}.new"
    with fresh.open("w", encoding="utf-8") as writer:
        writer.write(manifest_text(manifest))
        writer.flush()
        os.fsync(writer.fileno())
    fresh.rename(target / MANIFEST)
    sync_folder(target)


def _packages() -> Mapping[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
