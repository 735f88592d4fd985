"""A ledger of facts as its one writer holds it: facts in, one commit for each batch of them.

What is effect and what is progress is one commit, and a batch that was killed is either all of it there or none. That
is what exactly once rests on.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import pyarrow as pa
from deltalake import DeltaTable

from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.log_writer import LogWriter
from thalweg.sync.delta.upkeep import Upkeep

COMPACT_FILES: Final = 50
"""Merging fewer small files than this is not worth its commit."""

AnyFact = TypeVar("AnyFact")


class FactLedger(Protocol[AnyFact]):
    """Where facts are kept: a Delta table (`DeltaFacts`), or memory in tests."""

    def read(self) -> list[AnyFact]:
        """Return all facts, in order."""

    def append(self, facts: Sequence[AnyFact], first_number: int) -> None:
        """Add facts, all or none."""

    def holds(self, number: int) -> bool:
        """Tell whether the fact of this number is there, after an append whose outcome is unknown."""

    def tidy(self) -> None:
        """Keep it small; called between batches."""


class DeltaFacts(Generic[AnyFact]):
    """A table of facts, keyed by `number`; whoever claims it is its only writer, and an older one stops."""

    def __init__(
        self,
        contract: TableContract,
        warehouse: str,
        *,
        application: str,
        rows_of: Callable[[Sequence[AnyFact], int], pa.Table],
        facts_of: Callable[[Iterable[dict[str, Any]]], list[AnyFact]],
    ) -> None:
        """Open it, or create it.

        Args:
            contract: the table's.
            warehouse: folder or URI.
            application: id under which the number of the last fact is recorded.
            rows_of: writes facts, numbered densely from the given number.
            facts_of: reads them.
        """
        self._contract = contract
        self._application = application
        self._rows_of, self._facts_of = rows_of, facts_of
        self._commits = LogWriter(contract, warehouse)
        self._upkeep = Upkeep(self._commits.uri)

    def claim(self) -> None:
        """Commit nothing, but at exactly the version after the one that was read: who wrote until now is fenced.

        Raises:
            AnotherWriterError: somebody has written since it was opened.
        """
        before = DeltaTable(self._commits.uri, version=self._commits.version)
        lives = (before.transaction_version(f"{self._application}-driver") or 0) + 1
        self._commits.append(self._contract.schema.empty_table(), {f"{self._application}-driver": lives})

    def read(self) -> list[AnyFact]:
        """Return all facts, in order."""
        rows = pa.table(DeltaTable(self._commits.uri, version=self._commits.version).to_pyarrow_table())
        return self._facts_of(rows.cast(self._contract.schema).sort_by("number").to_pylist())

    def append(self, facts: Sequence[AnyFact], first_number: int) -> None:
        """Add facts as one commit.

        Raises:
            AnotherWriterError: somebody else writes.
            OSError: the disk does not take it; nothing was committed.
        """
        self._commits.append(self._rows_of(facts, first_number), {self._application: first_number + len(facts) - 1})

    def holds(self, number: int) -> bool:
        """Tell whether the fact of this number is there."""
        self._commits.refresh()
        last = DeltaTable(self._commits.uri).transaction_version(self._application)
        return last is not None and last >= number

    def tidy(self) -> None:
        """Merge small files where there are many, and keep the log short."""
        self._commits.compact(COMPACT_FILES)
        self._upkeep.checkpoint()
