"""Look at the tables: every log and every file as it should be, and how long ago each was written."""

import time
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from thalweg.checkup.finding import Finding, fine, problem
from thalweg.query.sql.mending import mending
from thalweg.sync.delta.contracts import CONTRACTS, TableContract
from thalweg.sync.delta.store import StoreError, table_uri
from thalweg.sync.delta.table_health import damage_of


def table_findings(warehouse: str) -> list[Finding]:
    """Judge every table of a local warehouse; no row is read."""
    if "://" in warehouse:
        return [fine("tables", f"in {warehouse}, not looked at: no local folder")]
    made = [contract for contract in CONTRACTS if (Path(warehouse) / contract.name / "_delta_log").is_dir()]
    if not made:
        return [fine("tables", f"none yet in {warehouse}")]
    return [_judge(contract, table_uri(warehouse, contract.name)) for contract in made]


def _judge(contract: TableContract, uri: str) -> Finding:
    check = f"table: {contract.name}"
    try:
        damages = list(damage_of(uri))
        if damages:
            more = f" and {len(damages) - 1} more" if len(damages) > 1 else ""
            fix = mending(contract.name, uri, damages[0].path)
            return problem(check, f"{damages[0].path} {damages[0].seen}{more}", fix)
        version = DeltaTable(uri).version()
    except (OSError, DeltaError, StoreError) as error:
        return problem(check, f"cannot be opened: {str(error).splitlines()[0]}", mending(contract.name, uri))
    newest = max(entry.stat().st_mtime for entry in (Path(uri) / "_delta_log").iterdir())
    return fine(check, f"version {version}, written {max(0, time.time() - newest):.0f} s ago, its files as logged")
