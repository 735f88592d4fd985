"""`thalweg rollout …`: bring a version of a model to the edges wave by wave, stop that, and look at it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from thalweg.cli.reach.finite import FINITE
from thalweg.cli.reach.reading import WrongCall, reading_command, reading_errors
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.terminal.render import Column, print_json, print_table, state_colour
from thalweg.conf.settings import Settings, SettingsError, load_settings
from thalweg.federation.connection import placed, warehouse_of
from thalweg.learning.rollout.plan import MARGINS, MEASURES, NAME, WAVES, RolloutPlanError
from thalweg.learning.rollout.records import RolloutRecordError, RolloutWish, read_wish, value_of, wish_key
from thalweg.query.sql.as_of import AsOf
from thalweg.query.sql.query import TableReader, quote
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.contract.topics import REPLICA, STATE
from thalweg.streams.learning.rollout_writes import REGION, state_record
from thalweg.sync.clock import system_clock

_STATUS_COLUMNS: Final = (
    Column(name="model"),
    Column(name="rollout"),
    Column(name="version"),
    Column(name="state", colour=state_colour),
    Column(name="wave"),
    Column(name="edges"),
    Column(name="heard"),
    Column(name="serving"),
    Column(name="at"),
    Column(name="reason"),
    Column(name="refusal", title="last refusal"),
)
_NOTHING_TO_STOP: Final = "(r.rollout = 0 AND r.rule = 'not_running')"
"""What is left of a stop of a model that had no roll-out: no roll-out."""
_WAITS: Final = "waits for the first edge that reports: thalweg model serve MODEL --rollouts"
_HISTORY_COLUMNS: Final = ("at", "rollout", "version", "kind", "wave", "edges", "heard", "edge", "rule", "reason")


@click.group()
def rollout() -> None:
    """Bring a version of a model to the edges wave by wave, and take it back where it does harm.

    `serve` is the process that decides; edges report their outcomes through the sync plane
    (docs/explanation/rollout.md).
    """


def _settings_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file."),
        click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable."),
        bootstrap_option,
    ):
        command = option(command)
    return command


def _settings(config: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> Settings:
    try:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
    except (SettingsError, NoBrokerError) as error:
        raise WrongCall(str(error)) from error
    return placed(settings, warehouse_of(settings))


@rollout.command(short_help="Decide: read what edges report, widen waves or take versions back.")
@_settings_options
def serve(config: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> None:
    """Decide until Ctrl-C: read what edges report, widen waves, take versions back (`jobs/roll_out`).

    \b
    Example:
      thalweg rollout serve
    """
    settings = _settings(config, overrides, bootstrap)
    from thalweg.jobs.roll_out import run  # late: the plane's packages
    from thalweg.sync.delta.lease import LeaseHeldError

    try:
        run(settings)
    except LeaseHeldError as error:
        raise click.ClickException(str(error)) from error


@rollout.command(short_help="Ask for a roll-out of a version.")
@click.argument("model")
@click.option("--version", required=True, help="The new version's name.")
@click.option("--digest", "sha256", required=True, metavar="SHA256", help="Of its bytes, in hex.")
@click.option(
    "--waves",
    default=",".join(f"{wave:g}" for wave in WAVES),
    show_default=True,
    help="Shares of the edges, growing to 1.",
)
@click.option("--share", type=FINITE, default=0.5, show_default=True, help="Of requests on an edge of the wave.")
@click.option(
    "--margin",
    "margins",
    multiple=True,
    metavar="MEASURE=SHARE",
    help=f"How much worse it may not be; of {', '.join(MEASURES)}. Given once, the others are not looked at. "
    f"By default {', '.join(f'{name}={margin:g}' for name, margin in MARGINS.items())}.",
)
@click.option(
    "--false-alarm", type=FINITE, default=0.01, show_default=True, help="Chance to take back what is no worse."
)
@click.option(
    "--missed", type=FINITE, default=0.05, show_default=True, help="Chance, for each wave, to go on with what is worse."
)
@click.option("--soak", "soak_s", type=FINITE, default=21_600, show_default=True, help="Least time of a wave, seconds.")
@click.option(
    "--deadline", "deadline_s", type=FINITE, default=604_800, show_default=True, help="Longest time of a wave, seconds."
)
@click.option("--quorum", type=FINITE, default=0.5, show_default=True, help="Share of a wave that must have reported.")
@click.option("--slow-ms", type=FINITE, default=1_000, show_default=True, help="An answer after this is slow.")
@_settings_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def start(
    model: str,
    waves: str,
    margins: tuple[str, ...],
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Ask for a roll-out of a version; what becomes of that is in `thalweg rollout status`.

    The first version of a model goes to all edges at once: there is nothing to compare it with. It waits for the first
    edge that reports (`thalweg model serve --rollouts`). A later one answers a share of the requests on the edges of a
    wave, the last good version the others.

    \b
    Examples:
      thalweg rollout start digits --version 8 --digest "$(sha256sum digits-8.onnx | cut -d' ' -f1)"
      thalweg rollout start digits --version 8 --waves 0.05,1 --margin wrong=0.02 --margin slow=0.1 \\
        --digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    now_ms = system_clock()
    try:
        wish = RolloutWish(
            wish=f"start-{fields['version'][:20]}-{now_ms}",
            op="start",
            waves=_waves(waves),
            margins=_margins(margins) or dict(MARGINS),
            **fields | {"sha256": fields["sha256"].lower()},
        )
        _checked(model, wish)
    except (ValueError, RolloutPlanError, RolloutRecordError) as error:
        raise WrongCall(str(error)) from error
    _ask(model, wish, now_ms, _settings(config, overrides, bootstrap))
    note_done(f"{model}: asked to roll version {wish.version} out")
    if as_json:
        print_json({"model": model, "wish": wish.wish, "version": wish.version, "sha256": wish.sha256})
    else:
        click.echo(f"{model}: asked to roll version {wish.version} out; thalweg rollout status {model}")


@rollout.command(short_help="Stop a roll-out: every edge goes back to the last good version.")
@click.argument("model")
@_settings_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def stop(model: str, config: Path | None, overrides: tuple[str, ...], bootstrap: str | None, as_json: bool) -> None:
    """Ask for the end of a roll-out: every edge goes back to the last good version.

    \b
    Example:
      thalweg rollout stop digits
    """
    now_ms = system_clock()
    wish = RolloutWish(wish=f"stop-{now_ms}", op="stop")
    _named(model)
    settings = _settings(config, overrides, bootstrap)
    with reading_errors():
        _known(model, settings.warehouse.path)
    _ask(model, wish, now_ms, settings)
    note_done(f"{model}: asked to stop")
    if as_json:
        print_json({"model": model, "wish": wish.wish})
    else:
        click.echo(f"{model}: asked to stop; thalweg rollout status {model}")


@rollout.command(short_help="Show the newest roll-out of each model.")
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with outcomes and evidence.")
@reading_command
def status(model: str | None, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Show the newest roll-out of each model: its wave, what it waits for, or how it ended and why.

    \b
    Examples:
      thalweg rollout status
      thalweg rollout status digits --json
    """
    with TableReader(warehouse, as_of) as reader:
        rows = reader.dicts(
            "WITH newest AS (SELECT model, max(rollout) AS rollout FROM rollouts GROUP BY model) "
            "SELECT r.* FROM rollouts r JOIN newest n ON n.model = r.model AND n.rollout = r.rollout "
            f"WHERE NOT {_NOTHING_TO_STOP}{_of(model, 'r.')} ORDER BY r.model, r.number"
        )
    if model is not None and not rows:
        raise click.ClickException(f"no roll-out of {model!r} is known in {warehouse}: thalweg rollout status")
    found = [_status([row for row in rows if row["model"] == name]) for name in sorted({row["model"] for row in rows})]
    if as_json:
        print_json({"rollouts": found})
    else:
        print_table(_STATUS_COLUMNS, found)


@rollout.command(short_help="List what has happened to a model's roll-outs, and why.")
@click.argument("model")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all of it.")
@reading_command
def history(model: str, limit: int, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """List what has happened to a model's roll-outs, newest first, with the reasons; refused reports are among it.

    \b
    Example:
      thalweg rollout history digits
    """
    with TableReader(warehouse, as_of) as reader:
        rows = reader.dicts(f"SELECT * FROM rollouts WHERE model = {quote(model)} ORDER BY number DESC")
    if as_json:
        print_json({"model": model, "facts": [_opened(row) for row in rows]})
    elif not rows:
        raise click.ClickException(f"no roll-out of {model!r} in {warehouse}: thalweg rollout status lists all")
    else:
        print_table(_HISTORY_COLUMNS, rows[:limit])


def _status(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum one roll-out up from its facts, in their order."""
    plan = next((_opened(row)["plan"] for row in rows if row["kind"] == "started"), None)
    refusals = [row for row in rows if row["kind"] == "refused"]
    told = [row for row in rows if row["kind"] != "refused"] or rows
    last = _opened(told[-1])
    ended = last["kind"] if last["kind"] in ("completed", "rolled_back", "stopped") else None
    is_new = ended == "completed"
    reason = _WAITS if last["kind"] == "started" and not last["edges"] else last["reason"]
    return {
        **{name: last[name] for name in ("model", "rollout", "wave", "edges", "heard", "at", "rule")},
        "reason": reason,
        "version": plan["version"] if plan else last["version"],
        "state": ended or ("refused" if plan is None else "running"),
        "serving": (plan["version"] if is_new else plan["last_version"]) if plan else None,
        "refused": len(refusals),
        "refusal": refusals[-1]["reason"] if refusals else None,
        "outcomes": last["outcomes"],
        "evidence": last["evidence"],
        "plan": plan,
    }


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: json.loads(row[name]) if row[name] else None for name in ("outcomes", "evidence", "plan")}


def _margins(items: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for item in items:
        name, separator, share = item.partition("=")
        if not separator:
            raise ValueError(f"--margin {item!r}: allowed is MEASURE=SHARE, of {', '.join(MEASURES)}")
        found[name] = _share("--margin", item, share)
    return found


def _waves(text: str) -> tuple[float, ...]:
    return tuple(_share("--waves", text, wave) for wave in text.split(","))


def _share(option: str, text: str, number: str) -> float:
    try:
        found = float(number)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        allowed = "shares that grow, the last of them 1, as 0.05,0.25,1" if option == "--waves" else "MEASURE=SHARE"
        raise ValueError(f"{option} {text!r}: {number!r} is no number; allowed is {allowed}")
    return found


def _checked(model: str, wish: RolloutWish) -> None:
    """Refuse here what the process would refuse."""
    read_wish(value_of(wish))
    wish.plan(model, ("", ""))


def _named(model: str) -> None:
    import re

    if re.fullmatch(NAME, model) is None:
        raise WrongCall(f"model {model!r}: allowed are 1 to 180 characters, no blank and no slash")


def _known(model: str, warehouse: str) -> None:
    with TableReader(warehouse, None) as reader:
        if not reader.dicts(f"SELECT 1 FROM rollouts WHERE model = {quote(model)} AND rollout > 0 LIMIT 1"):
            raise click.ClickException(f"no roll-out of {model!r} is known in {warehouse}: thalweg rollout status")


def _ask(model: str, wish: RolloutWish, now_ms: int, settings: Settings) -> None:
    try:
        ensure_topics(settings.kafka, [REGION], (STATE, REPLICA))
        publisher = KafkaPublisher(settings.kafka, client_id="thalweg-rollout")
        try:
            record = state_record(wish_key(model), value_of(wish), now_ms, settings.kafka.topic_prefix)
            publisher.publish([record])
        finally:
            publisher.close()
    except StreamError as error:
        raise click.ClickException(str(error)) from error


def _of(model: str | None, prefix: str) -> str:
    return "" if model is None else f" AND {prefix}model = {quote(model)}"
