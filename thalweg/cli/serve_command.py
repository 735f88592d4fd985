"""`thalweg serve`: the page and the HTTP door; `thalweg open`: show it."""

import json
import logging
import socket
import sys
import webbrowser
from pathlib import Path

import click

from thalweg.cli.reach.reading import WrongCall, find_warehouse
from thalweg.conf.environment import state_folder
from thalweg.conf.readiness import announce_ready, keep_pulse
from thalweg.conf.settings import KafkaSettings, SettingsError, WarehouseSettings, load_settings
from thalweg.stack.connection import bootstrap_option, with_bootstrap, with_broker
from thalweg.stack.state import running_in
from thalweg.sync.clock import system_clock


@click.command(short_help="Serve the page and the HTTP door.")
@click.option("--host", help="Address to bind.  [default: window.host, loopback]")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port; 0 takes a free one.  [default: window.port]")
@click.option("--warehouse", metavar="URI", help="Folder or URI of the tables; by default the stack's or the demo's.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
def serve(
    host: str | None,
    port: int | None,
    warehouse: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
) -> None:
    """Serve a page of what runs, waits, costs and changed, and the same over HTTP, until it is stopped.

    It only reads, and only this machine reaches it, unless the settings say otherwise (window.host, window.keys).
    /openapi.json describes the door. `up` and `demo` start one of their own. Stop it with Ctrl-C or SIGTERM.

    \b
    Examples:
      thalweg serve
      thalweg serve --port 8470 --warehouse s3://bucket/thalweg
      thalweg serve --config window.yaml
    """
    from thalweg.window.keys import WindowSettingsError
    from thalweg.window.server import bound, make_door
    from thalweg.window.server import serve as serve_door

    keep_pulse()
    try:
        settings = load_settings(config, with_bootstrap(overrides, bootstrap))
    except SettingsError as error:
        raise WrongCall(str(error)) from error
    named = {"host": host, "port": port}
    window = settings.window.model_copy(update={name: value for name, value in named.items() if value is not None})
    settings = settings.model_copy(update={"window": window})
    path = settings.warehouse.path
    place = warehouse or (path if path != WarehouseSettings().path else find_warehouse(None, config))

    def connect() -> KafkaSettings:
        return with_broker(settings).kafka

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)
    try:
        door = make_door(settings, place, connect, system_clock, state_folder())
        listening = bound(window.host, window.port)
    except WindowSettingsError as error:
        raise WrongCall(str(error)) from error
    except OSError as error:
        more = "" if isinstance(error, socket.gaierror) else "; --port 0 takes a free one"
        raise WrongCall(f"{window.host}:{window.port}: {error.strerror or error}{more}") from error
    with listening:
        url = _url(window.host, listening.getsockname()[1])

        def ready() -> None:
            announce_ready()
            click.echo(f"The window is open: {url} (tables: {place})", err=True)

        serve_door(door, listening, ready)


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/"


@click.command("open", short_help="Open the page of the running stack in a browser.")
@click.option("--print", "only_print", is_flag=True, help="Print its address and open nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and open nothing.")
def open_page(only_print: bool, as_json: bool) -> None:
    """Open the page of the stack, or else of the demo, that runs here.

    \b
    Examples:
      thalweg open
      thalweg open --print
    """
    folder = running_in(state_folder())
    port = None
    if folder is not None:
        records = folder.stack().get("processes", [])
        alive = [one for one in records if one["name"] == "window" and one["state"] in ("ready", "failing", "starting")]
        port = alive[0]["ports"].get("window") if alive else None
    if port is None:
        what = "the stack here serves no page (window.enabled)" if folder is not None else "no stack runs here"
        raise click.ClickException(f"{what}: start one (thalweg up), or serve these tables: thalweg serve")
    url = _url("127.0.0.1", port)
    if as_json:
        click.echo(json.dumps({"url": url}))
    elif only_print or not webbrowser.open(url):
        click.echo(url)
