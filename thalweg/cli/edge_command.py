"""`thalweg edge …`: what is done to data before they leave a region."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thalweg.cli.reach.output_file import check_output
from thalweg.cli.reach.reading import WrongCall
from thalweg.cli.terminal.render import print_json
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.edge.declaration import Declaration, DeclarationError, read_declaration
from thalweg.edge.prepared_rows import RowError
from thalweg.scheduling.counted import counted
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.topics import REPLICA, topic_name
from thalweg.streams.replication.newest_records import newest_records

if TYPE_CHECKING:
    from thalweg.conf.settings import Settings


@click.group()
def edge() -> None:
    """Prepare data before they leave a region, as it is declared for all (docs/how-to/learning.md)."""


@edge.command(short_help="Prepare a file of training data: filter, window, figures.")
@click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--record", "key", help="Key of the record of the sync plane that declares how.")
@click.option(
    "--declaration", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file with the record or its value, in its place.",
)  # fmt: skip
@click.option("--region", help="Whose own record KEY/REGION goes before that of all.  [default: the task's region]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
def prepare(
    source: Path,
    target: Path,
    key: str | None,
    file: Path | None,
    region: str | None,
    as_json: bool,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Prepare the file IN (.parquet, .csv, .csv.gz or .npz) as it is declared, and write OUT, of the same format.

    Beside it OUT.prepared.json says by which revision, and how many rows and bytes went in and out. Nothing is sent:
    what is to leave the region is OUT.

    \b
    Examples:
      thalweg edge prepare readings.parquet out.parquet --record edge/training
      thalweg edge prepare digits.npz out.npz --declaration training.json --json
    """
    if (key is None) == (file is None):
        raise WrongCall("how is it prepared? Allowed is one of --record KEY and --declaration FILE")
    check_output("OUT", target)
    try:
        from thalweg.federation.prepared_file import prepare_file  # late: numpy
        from thalweg.federation.table_files import PreparedFileError
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}; this needs pip install 'thalweg[serving]'") from error
    try:
        if file is not None:
            declaration = _in_file(file)
        else:
            settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
            key, declaration = _in_record(key or "", region or os.environ.get("THALWEG_REGION"), settings)
        found = prepare_file(source, target, declaration, record=key)
    except (SettingsError, NoBrokerError, DeclarationError, RowError, PreparedFileError) as error:
        raise WrongCall(str(error)) from error
    except StreamError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(asdict(found))
        return
    click.echo(
        f"{target}: {counted(found.rows_out, 'row')} of {found.rows_in:,}, {found.bytes_out:,} bytes of "
        f"{found.bytes_in:,} ({_less(found.bytes_in, found.bytes_out)}), by revision {found.revision}"
    )
    for name, how in found.figures.items():
        click.echo(f"  {name}: {how}")


def _less(before: int, after: int) -> str:
    """Compare bytes in words that are true of a file that grew, too."""
    if not after:
        return "nothing is left"
    fewer, more = f"{before / after:.1f}", f"{after / before:.1f}" if before else "many"
    if "1.0" in (fewer, more):
        return "about as many"
    return f"{fewer} times fewer bytes" if after < before else f"{more} times as many bytes"


def _in_file(file: Path) -> Declaration:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DeclarationError(f"{file}: {error}; wanted is JSON") from error
    if not isinstance(value, dict):
        raise DeclarationError(f"{file}: wanted is a JSON object with revision, window_s, …")
    if value.keys() == {"key", "value"} and isinstance(value["value"], dict):
        value = value["value"]  # a whole record, as it is written to the plane
    return _declared(str(file), value)


def _declared(where: str, value: Mapping[str, Any]) -> Declaration:
    try:
        return read_declaration(value)
    except DeclarationError as error:
        raise DeclarationError(f"{where}: {error}") from error


def _in_record(key: str, region: str | None, settings: "Settings") -> tuple[str, Declaration]:
    """Read the region's own record, or that of all; return its key, too."""
    kafka = settings.kafka
    keys = [key] if region is None else [f"{key}/{region}", key]
    ensure_topics(kafka, [], [REPLICA])
    with KafkaReader(kafka, topics=(topic_name(REPLICA, kafka.topic_prefix),), client_id="thalweg-edge") as reader:
        found = newest_records(reader, keys)
    for one in keys:
        if one in found:
            return one, _declared(f"record {one}", found[one])
    raise click.ClickException(f"there is no record {' nor '.join(keys)}: write one (docs/how-to/learning.md)")
