"""Look at the queries' checkpoints: whole, and made with this cluster, these topics and these tables."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from thalweg.checkup.finding import Finding, fine, problem, warning
from thalweg.streams.broker.origin import Present, Standing, compare
from thalweg.streams.broker.query_checkpoint import DamagedCheckpointError, QueryCheckpoint
from thalweg.sync.delta.contracts import DECISIONS, RECORDS, TELEMETRY, TableContract
from thalweg.sync.delta.store import table_uri

FIRST_TABLE: Final[Mapping[str, TableContract]] = {"place": DECISIONS, "observe": TELEMETRY, "replicate": RECORDS}
"""The table that a query's checkpoint is compared with."""

NO_TABLE: Final = "none"

Look = Callable[[str, Standing], Present]
"""Says what is here now of what a query (by name) stands on."""


def checkpoint_findings(folder: Path, look: Look, not_compared: Callable[[], str] = str) -> list[Finding]:
    """Judge every checkpoint in a folder.

    Args:
        folder: where they lie; one folder per query.
        look: see `Look`.
        not_compared: why the broker's topics could not be looked at; empty if they were. Asked after `look`.
    """
    if not folder.is_dir():
        return [fine("checkpoints", f"none yet in {folder}")]
    there = [checkpoint for checkpoint in sorted(folder.iterdir()) if (checkpoint / "offsets").is_dir()]
    return [finding for checkpoint in there for finding in _judge(checkpoint, look, not_compared)]


def _judge(folder: Path, look: Look, not_compared: Callable[[], str]) -> list[Finding]:
    check = f"checkpoint: {folder.name}"
    anew = (
        f"Move it away while nothing runs (mv {folder} {folder}.old) and start again: the query reads from the earliest"
        " record the broker holds, and what the tables already have is recognised"
    )
    checkpoint = QueryCheckpoint(folder)
    try:
        standing = checkpoint.standing()
    except DamagedCheckpointError as error:
        return [problem(check, str(error), anew)]
    if standing.batch is None:
        return [fine(check, "no batch yet")]
    if not (folder / "metadata").is_file():
        # Spark 4 refuses to go on without the id in it.
        seen = f"batch {standing.batch}, but its file `metadata` is missing: Spark will not start from it"
        return [problem(check, seen, anew)]
    origin = checkpoint.origin()
    found = compare(origin, standing, look(folder.name, standing))
    if found:
        # The query's start finds the same and does what is said: a person should know, and may want something else.
        return [warning(check, f"batch {standing.batch}; {each.sentence}", each.remedy) for each in found]
    if why := not_compared():
        return [fine(check, f"batch {standing.batch}; not compared with the topics: {why}")]
    return [fine(check, f"batch {standing.batch}, of this cluster, these topics and this warehouse")]


def table_present(warehouse: str, query: str, standing: Standing) -> Present:
    """Look at a query's first table, as a `Present` that knows nothing else."""
    contract = FIRST_TABLE.get(query)
    if contract is None:
        return Present()
    try:
        table = DeltaTable(table_uri(warehouse, contract.name))
    except TableNotFoundError:
        return Present(warehouse_id=NO_TABLE)
    except (DeltaError, OSError):
        return Present()
    batch = table.transaction_version(standing.query_id) if standing.query_id is not None else None
    return Present(warehouse_id=str(table.metadata().id), table_version=table.version(), table_batch=batch)
