"""The workers of a run: which processes an assignment asks for, and what each finds in its environment.

Ranks follow the order of the assignment's nodes. Names and meaning of the variables of a run of several workers are
those of torchrun's `env://` start; a run of one worker gets only ours, because frameworks take RANK as "distributed".
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from thalweg.processes.ports import LOOPBACK
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare

TABLES: Final = "THALWEG_WAREHOUSE__PATH"
"""Tells `thalweg results` and the other commands that read, within a task, where the tables are."""
PASSED: Final = ("PATH", "HOME", "LANG", "TZ", TABLES)
"""What a task gets of the agent's own environment, the rest of which may hold secrets."""
FEDERATED: Final = "federated"
INFER: Final = "infer"
MODELS: Final = "THALWEG_MODELS"
"""Where versions of models that have served are kept in this region, for tasks of the kind `infer`."""
ROUNDS: Final = (
    "THALWEG_KAFKA__BOOTSTRAP_SERVERS",
    "THALWEG_KAFKA__TOPIC_PREFIX",
    "THALWEG_KAFKA__SECURITY_PROTOCOL",
    "THALWEG_KAFKA__SASL_MECHANISM",
    "THALWEG_KAFKA__SSL_CAFILE",
    "THALWEG_FEDERATE__PAYLOADS",
)
"""What a task of the kind `federated` gets beside: where its rounds go on; one of the kind `infer` the same, for there
it learns what to serve. Whom it is there as is not among it: the agent's name and password, or certificate, would let
it speak as the agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedWorker:
    """One process of a run."""

    rank: int = 0
    local_rank: int = 0
    """Its number among the run's workers on its node."""
    node_rank: int = 0
    node_id: str = ""
    devices: tuple[int, ...] = ()
    """GPUs of the node that are its own."""
    cpus: float = 0.0
    memory_gb: float = 0.0


def workers_of(event: AssignmentEvent) -> list[RankedWorker]:
    """List the workers of an assignment by rank; one that names no node has one worker."""
    by_node: dict[str, list[NodeShare]] = {}
    for share in event.nodes:
        by_node.setdefault(share.node_id, []).append(share)
    made: list[RankedWorker] = []
    for node_rank, (node_id, shares) in enumerate(by_node.items()):
        parts = [(share, number) for share in shares for number in range(share.workers)]
        first_rank = len(made)
        made += (
            RankedWorker(
                rank=first_rank + local_rank,
                local_rank=local_rank,
                node_rank=node_rank,
                node_id=node_id,
                devices=_own_devices(share, number),
                cpus=share.cpus / share.workers,
                memory_gb=share.memory_gb / share.workers,
            )
            for local_rank, (share, number) in enumerate(parts)
        )
    return made or [RankedWorker()]


def _own_devices(share: NodeShare, number: int) -> tuple[int, ...]:
    """Deal out a share's GPUs in order; where it names none, it has the first ones."""
    devices = share.devices or list(range(share.gpus or bool(share.gpu_milli)))
    first, end = (len(devices) * edge // share.workers for edge in (number, number + 1))
    return tuple(sorted(set(devices[first:end])))


def environment(
    event: AssignmentEvent,
    worker: RankedWorker,
    workers: Sequence[RankedWorker],
    *,
    own: Mapping[str, str],
    secrets: dict[str, str],
    files: dict[str, str],
    master_port: int,
) -> dict[str, str]:
    """Make the environment of one worker: what is named later wins.

    Args:
        event: the assignment; its `env` may set PATH and the like anew.
        worker: the process.
        workers: all of the run.
        own: the agent's environment, of which `PASSED` is passed on, and `ROUNDS` to a participant and to a model
            server; what lies beside the agent's own Python is found last, so that a task finds `python` and `thalweg`
            on a machine that has no others.
        secrets: by name.
        files: variables that name the files by which a task tells something.
        master_port: where the workers of a run of several meet.
    """
    beside = {FEDERATED: ROUNDS, INFER: (*ROUNDS, MODELS)}
    names = (*PASSED, *beside.get(event.kind, ()))
    passed = {name: own[name] for name in names if name in own}
    passed["PATH"] = with_own_programs(own.get("PATH", os.defpath))
    ranked = {
        "THALWEG_TASK_ID": event.task_id,
        "THALWEG_EPOCH": str(event.epoch),
        "THALWEG_REGION": event.region,
        "THALWEG_NODE_ID": worker.node_id,
        "THALWEG_RANK": str(worker.rank),
        "THALWEG_WORLD_SIZE": str(len(workers)),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, worker.devices)),
    }
    return passed | event.env | secrets | files | ranked | _array(event) | _meeting(worker, workers, master_port)


def with_own_programs(path: str, programs: str = os.path.dirname(sys.executable)) -> str:
    """Put the folder of the agent's own programs behind those of a PATH, where it is none of them."""
    folders = [folder for folder in path.split(os.pathsep) if folder]
    return os.pathsep.join(folders if not programs or programs in folders else [*folders, programs])


def _array(event: AssignmentEvent) -> dict[str, str]:
    told = {
        "THALWEG_ARRAY_INDEX": getattr(event, "array_index", None),
        "THALWEG_ARRAY_COUNT": getattr(event, "array_count", None),
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _meeting(worker: RankedWorker, workers: Sequence[RankedWorker], master_port: int) -> dict[str, str]:
    if len(workers) == 1:
        return {}
    on_node = sum(other.node_rank == worker.node_rank for other in workers)
    return {
        "RANK": str(worker.rank),
        "LOCAL_RANK": str(worker.local_rank),
        "WORLD_SIZE": str(len(workers)),
        "LOCAL_WORLD_SIZE": str(on_node),
        "NODE_RANK": str(worker.node_rank),
        "MASTER_ADDR": LOOPBACK,  # one agent starts all workers of its region, on its own machine
        "MASTER_PORT": str(master_port),
    }
