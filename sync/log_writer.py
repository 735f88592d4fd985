"""Commit to a Delta table on a local disk in a few milliseconds: Parquet by pyarrow, the log entry by ourselves.

The ledger is committed in front of every assignment, so its commit is on the path that people wait for. The `deltalake`
package takes 10-25 ms for it (it replans the table each time); what the Delta protocol asks for is one Parquet file and
one JSON file that appears atomically and only if nobody made that version before. (Delta transaction log protocol,
sections "Delta Log Entries" and "Add File and Remove File".)

Files that the same writer appended can be compacted beside the stream: the bulk of the work holds no lock, only the
commit that swaps the files does.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sync.delta_store import AnotherWriterError

ENGINE: Final = "thalweg"

# Columns whose range goes into the file's statistics, so that reading one batch opens one file.
STATISTICS: Final = ("driver_epoch", "batch_id")

# Rows of the files to be compacted are kept, up to so many (some 300 MB of ledger): reading a thousand small files
# again takes seconds of processor time, which the micro-batches feel.
MOST_HELD_ROWS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A data file that this writer added."""

    path: str
    size_bytes: int
    rows: int
    statistics: str


class LogWriter:
    """The only writer of one unpartitioned table in a local folder, from a known version on."""

    def __init__(self, folder: Path, version: int) -> None:
        """Continue after `version`.

        Args:
            folder: the table's.
            version: the last one in its log.
        """
        self._folder = folder
        self._log = folder / "_delta_log"
        self._lock = threading.Lock()
        self._small: list[tuple[DataFile, pa.Table | None]] = []
        self._held_rows = 0
        self.version = version

    def append(self, rows: pa.Table, transactions: Mapping[str, int]) -> int:
        """Add rows as one commit at exactly the next version and return it.

        Args:
            rows: with the table's schema.
            transactions: application id → version, recorded with the commit.

        Raises:
            AnotherWriterError: the next version exists already.
            OSError: the disk does not take it; nothing was committed.
        """
        file = self._write(rows) if rows.num_rows else None
        actions = [_transaction(name, version) for name, version in transactions.items()]
        if file is not None:
            actions.append(_add(file, data_change=True))
        with self._lock:
            self._commit("WRITE", actions)
            if file is not None:
                held = rows if self._held_rows + rows.num_rows <= MOST_HELD_ROWS else None
                self._held_rows += held.num_rows if held is not None else 0
                self._small.append((file, held))
            return self.version

    def compact(self, at_least: int) -> int:
        """Replace the small files added so far by one, if there are enough; return how many were replaced.

        Readers of older versions find the old files until they are vacuumed.
        """
        with self._lock:
            small = list(self._small)
        if len(small) < at_least:
            return 0
        rows = [held if held is not None else self._read(file) for file, held in small]
        merged = self._write(pa.concat_tables(rows))
        with self._lock:
            self._commit("OPTIMIZE", [*(_remove(file) for file, _ in small), _add(merged, data_change=False)])
            self._small = self._small[len(small) :]
            self._held_rows = sum(held.num_rows for _, held in self._small if held is not None)
        return len(small)

    def _read(self, file: DataFile) -> pa.Table:
        # Not read_table: for a file of a few hundred rows its plan costs more than the reading.
        with pq.ParquetFile(self._folder / file.path) as opened:
            return opened.read(use_threads=False)

    def _write(self, rows: pa.Table) -> DataFile:
        name = f"part-{uuid.uuid4()}.parquet"
        path = self._folder / name
        try:
            pq.write_table(rows, path, compression="zstd", compression_level=1)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return DataFile(path=name, size_bytes=path.stat().st_size, rows=rows.num_rows, statistics=_statistics(rows))

    def _commit(self, operation: str, actions: Sequence[dict[str, Any]]) -> None:
        info = {"timestamp": _now_ms(), "operation": operation, "operationParameters": {}, "engineInfo": ENGINE}
        text = "\n".join(json.dumps(action, separators=(",", ":")) for action in [{"commitInfo": info}, *actions])
        target = self._log / f"{self.version + 1:020d}.json"
        draft = self._log / f".{uuid.uuid4()}.tmp"
        try:
            draft.write_text(text + "\n", encoding="utf-8")
            # A hard link appears whole or not at all, and never over an existing name: the protocol's put-if-absent.
            os.link(draft, target)
        except FileExistsError:
            raise AnotherWriterError(str(self._folder), self.version) from None
        finally:
            draft.unlink(missing_ok=True)
        self.version += 1


def _statistics(rows: pa.Table) -> str:
    ranges = {name: pc.min_max(rows.column(name)).as_py() for name in STATISTICS if name in rows.column_names}
    return json.dumps(
        {
            "numRecords": rows.num_rows,
            "minValues": {name: found["min"] for name, found in ranges.items()},
            "maxValues": {name: found["max"] for name, found in ranges.items()},
            "nullCount": dict.fromkeys(ranges, 0),
        }
    )


def _transaction(name: str, version: int) -> dict[str, Any]:
    return {"txn": {"appId": name, "version": version, "lastUpdated": _now_ms()}}


def _add(file: DataFile, *, data_change: bool) -> dict[str, Any]:
    return {
        "add": {
            "path": file.path,
            "partitionValues": {},
            "size": file.size_bytes,
            "modificationTime": _now_ms(),
            "dataChange": data_change,
            "stats": file.statistics,
        }
    }


def _remove(file: DataFile) -> dict[str, Any]:
    return {
        "remove": {
            "path": file.path,
            "deletionTimestamp": _now_ms(),
            "dataChange": False,
            "extendedFileMetadata": True,
            "partitionValues": {},
            "size": file.size_bytes,
        }
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
