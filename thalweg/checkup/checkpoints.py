"""Look at the queries' checkpoints: whole, and not ahead of the broker they were made with."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from thalweg.checkup.finding import Finding, fine, problem

Positions = dict[str, dict[int, int]]
EndOffsets = Callable[[Mapping[str, Mapping[int, int]]], dict[tuple[str, int], int] | None]


class DamagedCheckpointError(Exception):
    """A checkpoint's newest offsets cannot be read."""


def checkpoint_findings(folder: Path, ends: EndOffsets) -> list[Finding]:
    """Judge every checkpoint in a folder.

    Args:
        folder: Where they lie; one folder per query.
        ends: Says where the broker's partitions end, or None if no broker answers.
    """
    if not folder.is_dir():
        return [fine("checkpoints", f"none yet in {folder}")]
    return [_judge(checkpoint, ends) for checkpoint in sorted(folder.iterdir()) if (checkpoint / "offsets").is_dir()]


def _judge(checkpoint: Path, ends: EndOffsets) -> Finding:
    check = f"checkpoint: {checkpoint.name}"
    anew = (
        f"Move it away (mv {checkpoint} {checkpoint}.old) and start again: the query reads from the earliest record the"
        " broker holds, and what the tables already have is recognised"
    )
    try:
        batch, positions = newest_offsets(checkpoint)
    except DamagedCheckpointError as error:
        return problem(check, str(error), anew)
    if batch is None:
        return fine(check, "no batch yet")
    if not (checkpoint / "metadata").is_file():
        # Spark 4 refuses to go on without the id in it.
        return problem(check, f"batch {batch}, but its file `metadata` is missing: Spark will not start from it", anew)
    known = ends(positions)
    if known is None:
        return fine(check, f"batch {batch}; not compared with a broker, none answers")
    for topic, partitions in positions.items():
        for partition, offset in partitions.items():
            end = known.get((topic, partition))
            if end is None or end < offset:
                there = "is not there" if end is None else f"ends at {end}"
                seen = f"batch {batch} stands at {topic}/{partition} offset {offset}, which {there} on this broker"
                return problem(check, f"{seen}: it was made with another broker or with records since deleted", anew)
    return fine(check, f"batch {batch}, within what the broker holds")


def newest_offsets(checkpoint: Path) -> tuple[int | None, Positions]:
    """Return the newest batch planned and the Kafka positions it ends at; (None, {}) if there is none.

    Raises:
        DamagedCheckpointError: The file is not as Spark writes it: a version line, a JSON line, one line per source.
    """
    batches = [int(file.name) for file in (checkpoint / "offsets").iterdir() if file.name.isdigit()]
    if not batches:
        return None, {}
    newest = checkpoint / "offsets" / str(max(batches))
    positions: Positions = {}
    try:
        version, _, *sources = newest.read_text(encoding="utf-8").splitlines()
        if not version.startswith("v"):
            raise ValueError(f"version {version!r}")
        for source in sources:
            for topic, partitions in json.loads(source).items() if source.startswith("{") else ():
                if isinstance(partitions, dict):
                    positions[topic] = {int(partition): int(offset) for partition, offset in partitions.items()}
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(f"{newest} cannot be read ({error})") from error
    return max(batches), positions
