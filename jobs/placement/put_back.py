"""Finding at a start that the ledger is older than what regions were told, and what is to be read back for that.

A restore leaves a mark beside the tables. A copy that somebody put back by hand leaves none: then the newest events of
the regions' topics tell, because what is told was committed before.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from thalweg.jobs.placement.read_back import ReadBack, lay_out, told_beyond
from thalweg.scheduling.liveness.hearing import Ends
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.contract.topics import ASSIGNMENTS, STATUS, topic_pattern
from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.durable import sync_file, sync_folder
from thalweg.sync.ledger.put_back import FILE_NAME, PutBack, put_back_from

NEWEST: Final = 20
"""Events of each partition that are looked at: the last batch's, and markers of transactions between them."""

MARGIN_MS: Final = 3_600_000
"""Clocks of drivers, regions and brokers may differ by so much from what the ledger's last row says."""

PUT_BACK: Final = (
    "the ledger is older than what regions were told ({told}, epoch {epoch}, is not in it): a copy was put back; "
    "requests that the broker holds since then are taken again, and what regions were told since then is read back, so "
    "that what runs goes on and what has ended does not run again"
)

log = logging.getLogger("thalweg.place")

Offsets = Mapping[tuple[str, int], int]


class Past(Protocol):
    """Reads what topics hold."""

    def since(self, ends: Offsets, moment_ms: int) -> Offsets:
        """Say where what came at a moment or later begins, of each partition."""

    def read(self, starts: Offsets, ends: Offsets) -> Iterable[IncomingRecord]:
        """Read what lies between."""


def find_read_back(
    warehouse: str, world: World, last_batch: pa.Table, ends: Ends, prefix: str, past: Past
) -> ReadBack | None:
    """Look whether the ledger was put back; None where it was not, else what is to be taken back.

    Args:
        warehouse: where it lies.
        world: as its rows make it.
        last_batch: rows of its last batch.
        ends: where the topics end, taken before the query begins: requests, status and assignments.
        prefix: of the topics.
        past: reads them.
    """
    is_told = _matcher(topic_pattern(ASSIGNMENTS, prefix))
    told = _places(ends, is_told)
    put_back = read_put_back(warehouse)
    if put_back is None:
        newest = past.read({place: max(end - NEWEST, 0) for place, end in told.items()}, told)
        # Tasks that the ledger never had are told to stop, too, where a region holds them: that says nothing of it.
        unknown = [
            event
            for event, _ in told_beyond(world, newest, prefix)
            if event.type == "assign" or world.find(event.task_id) is not None
        ]
        if not unknown:
            return None
        event = unknown[-1]
        put_back = PutBack(made_ms=None, sentence=PUT_BACK.format(told=event.task_id, epoch=event.epoch))
        write_put_back(warehouse, put_back)
    log.warning(put_back.sentence)
    newest_us = pc.max(last_batch["decided_at"].cast(pa.int64())).as_py() if last_batch.num_rows else None
    since_ms = 0 if newest_us is None else newest_us // 1_000 - MARGIN_MS
    beyond = told_beyond(world, past.read(past.since(told, since_ms), told), prefix)
    read = _places(ends, lambda topic: not is_told(topic))
    reports: Iterable[IncomingRecord] = ()
    if beyond:
        is_status = _matcher(topic_pattern(STATUS, prefix))
        status = {place: end for place, end in read.items() if is_status(place[0])}
        reports = past.read(past.since(status, since_ms), status)
    return ReadBack(entries=lay_out(beyond, reports, prefix), until=read, over=lambda: forget_put_back(warehouse))


def read_put_back(warehouse: str) -> PutBack | None:
    """Read a warehouse's mark; None where it has none."""
    filesystem, place = _mark(warehouse)
    try:
        with filesystem.open_input_stream(place) as file:
            return put_back_from(file.read())
    except FileNotFoundError:
        return None


def write_put_back(warehouse: str, found: PutBack) -> None:
    """Mark a warehouse; the mark is on the disk before anything follows from it."""
    filesystem, place = _mark(warehouse)
    with filesystem.open_output_stream(place) as file:
        file.write(found.as_bytes())
    if isinstance(filesystem, pafs.LocalFileSystem):
        sync_file(place)
        sync_folder(Path(place).parent)


def forget_put_back(warehouse: str) -> None:
    """Take the mark away: what was told is in the ledger."""
    filesystem, place = _mark(warehouse)
    with suppress(FileNotFoundError):
        filesystem.delete_file(place)


def _mark(warehouse: str) -> tuple[pafs.FileSystem, str]:
    filesystem, folder = folder_of(warehouse)
    return filesystem, f"{folder.rstrip('/')}/{FILE_NAME}"


def _matcher(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda topic: compiled.fullmatch(topic) is not None


def _places(ends: Ends, wanted: Callable[[str], bool]) -> dict[tuple[str, int], int]:
    """List where partitions end; one that cannot be asked now is left out."""
    return {
        (topic, partition): end
        for topic, partitions in ends.items()
        if wanted(topic)
        for partition, end in partitions.items()
        if end is not None
    }
