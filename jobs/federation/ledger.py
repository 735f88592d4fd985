"""The ledger of learning: every record that was read is a fact with its place, so facts also say what has been read."""

from typing import Final

from thalweg.jobs.federation.fact_rows import facts_of, rows_of
from thalweg.jobs.runtime.fact_ledger import DeltaFacts, FactLedger
from thalweg.learning.rounds.facts import Fact
from thalweg.sync.delta.contracts import LEARNING

APPLICATION: Final = "thalweg-federate"
"""Application id under which the number of the last fact is recorded."""

LearningLedger = FactLedger[Fact]
"""Where facts are kept: a Delta table (`DeltaLedger`), or memory in tests."""


class DeltaLedger(DeltaFacts[Fact]):
    """The table `learning`."""

    def __init__(self, warehouse: str) -> None:
        """Open it, or create it.

        Args:
            warehouse: folder or URI.
        """
        super().__init__(LEARNING, warehouse, application=APPLICATION, rows_of=rows_of, facts_of=facts_of)
