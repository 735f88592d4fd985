"""Random lives of tasks as batches of the ledger, written as the place job leaves them: for tests of who looks on."""

import random
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake

from tests.ledger_rows import assigned, happened, ledger, submitted
from thalweg.sync.delta.contracts import DECISIONS, PLACEMENTS, TASKS
from thalweg.sync.delta.store import append, open_or_create, table_uri
from thalweg.sync.ledger.fold_marks import FOLD_BATCH, FOLD_DRIVER
from thalweg.sync.ledger.folds import fold_ledger

REGIONS = ("aws:us-east-1", "lab:zurich", "edge:tokyo")
TENANTS = ("research", "ads", "vision")


def random_batches(seed: int, batches: int, tasks: int) -> list[pa.Table]:
    """Batches in which tasks begin, are placed, moved, run, end and begin again."""
    chance = random.Random(seed)
    standing: dict[str, tuple[str, int]] = {}
    made = []
    for number in range(batches):
        facts: list[dict[str, Any]] = []
        for _ in range(max(1, tasks // batches)):
            task_id = f"sweep-{chance.randrange(3)}[{len(standing)}]" if chance.random() < 0.3 else f"t{len(standing)}"
            more: dict[str, Any] = {"tenant": chance.choice(TENANTS), "priority": chance.choice((300, 500))}
            more["per_worker"] = {"gpus": chance.choice((1, 2, 8))}
            if chance.random() < 0.2:
                more["replicas"] = 2
            facts.append(submitted(task_id, **more) | {"name": chance.choice((None, f"run_{len(standing)}%"))})
            standing[task_id] = ("waiting", 0)
        for task_id, (state, epoch) in list(standing.items()):
            region = chance.choice(REGIONS)
            if state == "waiting" and chance.random() < 0.5:
                facts.append(assigned(task_id, epoch + 1, region))
                standing[task_id] = ("assigned", epoch + 1)
            elif state == "waiting" and chance.random() < 0.3:
                facts.append(
                    happened(task_id, "waiting", epoch, reason=f"Capacity: {chance.randrange(3)} GPUs are free")
                )
            elif state == "assigned" and chance.random() < 0.5:
                change = chance.choice(("accepted", "running", "running", "lost", "failed", "succeeded", "cancelled"))
                facts.append(happened(task_id, change, epoch, region=region))
                gone = {"lost": "waiting", "failed": "waiting", "succeeded": "ended", "cancelled": "ended"}
                standing[task_id] = (gone.get(change, "assigned"), epoch)
        made.append(ledger(*facts, batch_id=number + 1))
    return made


def write_ledger(folder: str, batches: list[pa.Table]) -> None:
    """Append batches to the ledger, a commit each."""
    table = open_or_create(DECISIONS, folder)
    for rows in batches:
        append(table, rows)


def write_tables(folder: str, batches: list[pa.Table], *, marked: bool = True) -> None:
    """Write `tasks` and `placements` as folds of batches, with the marks that say so."""
    rows = pa.concat_tables(batches)
    last = {"driver": rows.column("driver_epoch")[-1].as_py(), "batch": rows.column("batch_id")[-1].as_py()}
    marks = [Transaction(FOLD_DRIVER, last["driver"]), Transaction(FOLD_BATCH, last["batch"])] if marked else []
    for contract, folded in zip((TASKS, PLACEMENTS), fold_ledger(rows), strict=True):
        open_or_create(contract, folder)
        write_deltalake(
            table_uri(folder, contract.name),
            folded,
            mode="overwrite",
            commit_properties=CommitProperties(app_transactions=marks) if marks else None,
        )
