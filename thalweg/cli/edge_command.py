"""`thalweg edge …`: what is done to data before they leave a region."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from thalweg.cli.reach.declared_preparation import NoDeclarationError, declared_in_file, declared_in_record
from thalweg.cli.reach.output_file import check_output
from thalweg.cli.reach.reading import WrongCall
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.terminal.render import print_json
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.edge.declaration import DeclarationError
from thalweg.edge.prepared_rows import RowError
from thalweg.scheduling.counted import counted
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.errors import StreamError


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
            declaration = declared_in_file(file)
        else:
            settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
            key, declaration = declared_in_record(key or "", region or os.environ.get("THALWEG_REGION"), settings.kafka)
        with _cleared_up():
            found = prepare_file(source, target, declaration, record=key)
    except (SettingsError, NoBrokerError, DeclarationError, RowError, PreparedFileError) as error:
        raise WrongCall(str(error)) from error
    except (StreamError, NoDeclarationError) as error:
        raise click.ClickException(str(error)) from error
    note_done(f"{target} written")
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


@contextmanager
def _cleared_up() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does: what lies beside OUT until it is whole may be larger than IN."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
