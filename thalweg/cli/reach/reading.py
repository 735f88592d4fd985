"""What the reading commands share: where the warehouse is, which moment is meant, and how errors end a command."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from thalweg.conf.environment import DEMO, state_folder
from thalweg.query.sql.as_of import AsOf, LogTooShortError, parse_as_of
from thalweg.query.sql.query import WarehouseUnreadableError
from thalweg.query.sql.sql_statement import QueryRefusedError

_NAMES_A_PLACE: Final = ("THALWEG_CONFIG", "THALWEG_WAREHOUSE")


def find_warehouse(warehouse: str | None, config: Path | None) -> str:
    """Choose the warehouse: the option, else the settings, else the local stack's or the demo's, the last written.

    Raises:
        click.ClickException: the settings cannot be read.
    """
    if warehouse is not None:
        return warehouse
    local = str(_last_written(state_folder() / "warehouse", state_folder() / DEMO / "warehouse"))
    if config is None and not any(name.startswith(_NAMES_A_PLACE) for name in os.environ):
        return local  # loading the settings would take longer than the query
    from thalweg.conf.settings import SettingsError, WarehouseSettings, load_settings

    try:
        path = load_settings(config).warehouse.path
    except SettingsError as error:
        raise WrongCall(str(error)) from error
    return local if path == WarehouseSettings().path else path


def _last_written(first: Path, *others: Path) -> Path:
    """Choose the warehouse whose ledger was committed to last; the first where none was."""
    written = {place: place / "decisions" / "_delta_log" for place in (first, *others)}
    return max(
        (place for place in written if written[place].is_dir()), key=lambda p: written[p].stat().st_mtime, default=first
    )


def reading_command(function: Callable[..., None]) -> Callable[..., None]:
    """Add --warehouse, --config and --as-of; pass `warehouse` and `as_of` on; end with the right exit code."""

    @click.option(
        "--warehouse",
        metavar="URI",
        help="Folder or object-store URI of the tables; by default the local stack's or the demo's.",
    )
    @click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
    @click.option("--as-of", metavar="VERSION|TIME", help="Read the past: 17, 2026-11-21T12:00:00Z or '5m ago'.")
    @functools.wraps(function)
    def command(warehouse: str | None, config: Path | None, as_of: str | None, **arguments: Any) -> None:
        with reading_errors():
            moment: AsOf | None = parse_as_of(as_of, datetime.now(UTC)) if as_of is not None else None
            place = find_warehouse(warehouse, config)
            function(warehouse=place, as_of=moment, **arguments)

    return command


@contextmanager
def reading_errors() -> Iterator[None]:
    """End a command with the right exit code where its reading fails."""
    try:
        yield
    except QueryRefusedError as error:
        raise WrongCall(str(error)) from error
    except (WarehouseUnreadableError, LogTooShortError) as error:
        raise click.ClickException(str(error)) from error


class WrongCall(click.ClickException):
    """The call is wrong: exit code 2."""

    exit_code = 2
