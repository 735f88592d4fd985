"""The ledger of learning as its one writer holds it: facts in, one commit for each batch of them.

Every record that was read is a fact with its place, so the facts also say what has been read: what is effect and what
is progress is one commit, and a batch that was killed is either all of it there or none. That is what exactly once
rests on.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import pyarrow as pa
from deltalake import DeltaTable

from thalweg.jobs.federation.fact_rows import facts_of, rows_of
from thalweg.learning.rounds.facts import Fact
from thalweg.sync.delta.contracts import LEARNING
from thalweg.sync.delta.log_writer import LogWriter
from thalweg.sync.delta.upkeep import Upkeep

APPLICATION: Final = "thalweg-federate"
"""Application id under which the number of the last fact is recorded."""
COMPACT_FILES: Final = 50
"""Merging fewer small files than this is not worth its commit."""


class LearningLedger(Protocol):
    """Where facts are kept: a Delta table (`DeltaLedger`), or memory in tests."""

    def read(self) -> list[Fact]:
        """Return all facts, in order."""

    def append(self, facts: Sequence[Fact], first_number: int) -> None:
        """Add facts, all or none."""

    def holds(self, number: int) -> bool:
        """Tell whether the fact of this number is there, after an append whose outcome is unknown."""

    def tidy(self) -> None:
        """Keep it small; called between batches."""


class DeltaLedger:
    """The table `learning`; whoever opens it becomes its only writer, and an older one stops at its next commit."""

    def __init__(self, warehouse: str) -> None:
        """Open it, or create it.

        Args:
            warehouse: folder or URI.
        """
        self._commits = LogWriter(LEARNING, warehouse)
        self._upkeep = Upkeep(self._commits.uri)

    def claim(self) -> None:
        """Commit nothing, but at exactly the version after the one that was read: who wrote until now is fenced.

        Raises:
            AnotherWriterError: somebody has written since it was opened.
        """
        before = DeltaTable(self._commits.uri, version=self._commits.version)
        lives = (before.transaction_version(f"{APPLICATION}-driver") or 0) + 1
        self._commits.append(LEARNING.schema.empty_table(), {f"{APPLICATION}-driver": lives})

    def read(self) -> list[Fact]:
        """Return all facts, in order."""
        rows = pa.table(DeltaTable(self._commits.uri, version=self._commits.version).to_pyarrow_table())
        return facts_of(rows.cast(LEARNING.schema).sort_by("number").to_pylist())

    def append(self, facts: Sequence[Fact], first_number: int) -> None:
        """Add facts as one commit.

        Raises:
            AnotherWriterError: somebody else writes.
            OSError: the disk does not take it; nothing was committed.
        """
        self._commits.append(rows_of(facts, first_number), {APPLICATION: first_number + len(facts) - 1})

    def holds(self, number: int) -> bool:
        """Tell whether the fact of this number is there."""
        self._commits.refresh()
        last = DeltaTable(self._commits.uri).transaction_version(APPLICATION)
        return last is not None and last >= number

    def tidy(self) -> None:
        """Merge small files where there are many, and keep the log short."""
        self._commits.compact(COMPACT_FILES)
        self._upkeep.checkpoint()
