"""Going on with a campaign that is kept in a file, a step at a time: for the commands that prove by simulation."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from thalweg.stack.machine import commit_of_clone, describe
from thalweg.sync.proof.campaign_record import AnyRecord, RecordUnusableError, read_any_record, write_record

Run = TypeVar("Run")


def go_on(
    path: Path,
    kind: type[AnyRecord],
    *,
    histories: int,
    seed: int,
    code: str,
    at_most: int,
    step: int,
    run: Callable[[AnyRecord, int], Run],
    extended: Callable[[AnyRecord, Run, datetime], AnyRecord],
    begin: Mapping[str, Any] | None = None,
) -> AnyRecord:
    """Play the next histories of a campaign, and keep its record after each step.

    Args:
        path: of the record; begun where there is none.
        kind: of the campaign.
        histories: wanted in all.
        seed: of the first.
        code: digest of what is played.
        at_most: histories of this call.
        step: histories between two writings of the record.
        run: plays so many that follow a record.
        extended: adds them to it.
        begin: further fields of a record that is begun.

    Raises:
        click.UsageError: the file cannot be gone on with.
    """
    now = datetime.now(UTC)
    try:
        kept = read_any_record(path, kind, histories, seed, code)
    except RecordUnusableError as error:
        raise click.UsageError(str(error)) from error
    if kept is None:
        kept = kind(
            histories=histories,
            seed=seed,
            begun_at=now,
            ended_at=now,
            code=code,
            commit=commit_of_clone(),
            machine=describe(),
            **(begin or {}),
        )
    until = min(kept.done + at_most, histories)
    while kept.done < until:
        kept = extended(kept, run(kept, min(step, until - kept.done)), datetime.now(UTC))
        write_record(path, kept)
    return kept
