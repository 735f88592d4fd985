"""`thalweg drain`, `undrain`, `move`, `tenant`, `price` and `orders`: the operator's hand on a running plane."""

import getpass
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from thalweg.cli.reach.ending import FAILED, WRONG_CALL, end
from thalweg.cli.reach.finite import FINITE, FiniteRange
from thalweg.cli.reach.reading import WrongCall, find_warehouse, reading_command
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.terminal import words
from thalweg.cli.terminal.moment import parse_moment
from thalweg.cli.terminal.render import Column, Fit, on_one_line, print_json, print_table
from thalweg.query.questions.foreseen_words import as_document, in_words
from thalweg.query.sql.as_of import AsOf
from thalweg.query.sql.query import TableReader, WarehouseUnreadableError
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker

if TYPE_CHECKING:
    from thalweg.conf.settings import Settings
    from thalweg.query.questions.world_copy import Foreseen
    from thalweg.scheduling.world.world import World
    from thalweg.streams.contract.messages import ControlOrder, OrderAnswer

_ANSWER_S: Final = 10.0
_ONCE: Final = ("move", "asked")
"""Orders that are done and stand for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What every one of these commands is given."""

    config: Path | None
    overrides: tuple[str, ...]
    bootstrap: str | None
    warehouse: str | None
    who: str | None
    answer_s: float
    dry_run: bool
    yes: bool
    as_json: bool


def _options(command: Callable[..., None]) -> Callable[..., None]:
    def with_call(**given: Any) -> None:
        fields = {name: given.pop(name) for name in _Call.__dataclass_fields__}
        command(_Call(**fields), **given)

    with_call.__doc__, with_call.__name__ = command.__doc__, command.__name__
    with_call.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    options = (
        click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file."),
        click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable."),
        bootstrap_option,
        click.option("--warehouse", metavar="URI", help="Folder or URI of the tables, for what it says beforehand."),
        click.option("--who", metavar="NAME", help="Who wants it, for the history.  [default: the user's name]"),
        click.option(
            "--answer",
            "answer_s",
            type=FiniteRange(min=0),
            default=_ANSWER_S,
            show_default=True,
            metavar="SECONDS",
            help="Wait so long to hear what became of it; 0 does not.",
        ),
        click.option("--dry-run", is_flag=True, help="Say what would follow, from a copy of the world; send nothing."),
        click.option("--yes", is_flag=True, help="Do not ask before it is done."),
        click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output."),
    )
    made: Callable[..., None] = with_call
    for option in options:
        made = option(made)
    return made


@click.command(short_help="Empty a region or a node: it takes nothing new, and what runs there moves elsewhere.")
@click.argument("where", metavar="REGION[/NODE]")
@click.option("--node", metavar="NODE", help="One node of the region, where its name or the region's holds a slash.")
@click.option("--by", metavar="TIME", help="When it has to be empty: 2026-11-21T18:00:00Z, 90m or 2h from now.")
@_options
def drain(call: _Call, where: str, node: str | None, by: str | None) -> None:
    """Empty a region, or one of its nodes: it takes nothing new, and what runs there moves elsewhere.

    First it is said what will move, where to, and what that costs; then it is asked. A task leaves when another place
    has been found for it, in one step; one of kind `infer` first starts there and stops here when it runs there. With
    --by, what is expected to end in time is left alone, and what is still there at that moment is stopped and waits.
    Without it, what fits nowhere else stays. Nothing that the region reports ends a drain: only `thalweg undrain` does.

    \b
    Examples:
      thalweg drain aws:us-east-1 --dry-run
      thalweg drain aws:us-east-1 --by 2h --yes
      thalweg drain aws:us-east-1/node-7
    """
    try:
        by_ms = None if by is None else _ms(parse_moment(by, datetime.now(UTC), "--by"))
    except ValueError as error:
        end(str(error), WRONG_CALL)
    _give(call, _place_of(call, where, node) | {"order": "drain", "by": by_ms}, asks=True)


@click.command(short_help="Let a drained region or node take tasks again.")
@click.argument("where", metavar="REGION[/NODE]")
@click.option("--node", metavar="NODE", help="One node of the region, where its name or the region's holds a slash.")
@_options
def undrain(call: _Call, where: str, node: str | None) -> None:
    """Let a region, or a node, that is drained take tasks again. Where nothing is drained, nothing changes.

    \b
    Examples:
      thalweg undrain aws:us-east-1
      thalweg undrain aws:us-east-1/node-7
    """
    _give(call, _place_of(call, where, node) | {"order": "undrain"})


@click.command(short_help="Move a task that runs to another region.")
@click.argument("task")
@click.argument("region")
@click.option("--copy", type=click.IntRange(min=0), help="Which of its copies, where it has more than one.")
@_options
def move(call: _Call, task: str, region: str, copy: int | None) -> None:
    """Move a task to a region: it stops where it is and starts there, in one step.

    It is refused, and the task stays where it is, where that region has no room for it now or may not have it: because
    of its residency, its GPU model, its latency, a drain.

    \b
    Examples:
      thalweg move train-1 gcp:europe-west4
      thalweg move train-1 gcp:europe-west4 --dry-run
    """
    _give(call, {"order": "move", "task_id": task, "region": region, "copy": copy}, asks=True)


@click.command(short_help="Change a tenant while the plane runs: hold it, or set its weight, quota and budget.")
@click.argument("name")
@click.option("--weight", type=FINITE, help="Its fair share, against the weights of the others.")
@click.option("--quota", type=FINITE, metavar="GPUS", help="Most GPUs it holds at any moment.")
@click.option("--budget", type=FINITE, metavar="USD", help="Most that all its copies together cost an hour.")
@click.option("--most-tasks", type=int, metavar="N", help="So many of its tasks may not have ended at once.")
@click.option("--hold", "hold", is_flag=True, help="Let nothing of it start; what runs goes on.")
@click.option("--release", "release", is_flag=True, help="Let it start again.")
@click.option("--reset", is_flag=True, help="Weight and limits as the settings say.")
@_options
def tenant(
    call: _Call,
    name: str,
    weight: float | None,
    quota: float | None,
    budget: float | None,
    most_tasks: int | None,
    hold: bool,
    release: bool,
    reset: bool,
) -> None:
    """Change what a tenant may have, without a restart. What is not named stays as it is.

    A quota below what the tenant holds stops nothing: nothing more of it starts until it is below. A number of tasks
    below what it has refuses what comes next, until enough have ended.

    \b
    Examples:
      thalweg tenant research --quota 64 --weight 2
      thalweg tenant research --hold
      thalweg tenant research --reset
    """
    limits = {"weight": weight, "quota_gpus": quota, "budget_usd_per_hour": budget, "most_tasks": most_tasks}
    given = {key: value for key, value in limits.items() if value is not None}
    named = bool(given) + hold + release + reset
    if named != 1:
        wanted = "one of: limits (--weight, --quota, --budget, --most-tasks), --hold, --release, --reset"
        problem = f"wanted is {wanted}" if not named else f"they cannot be combined: one call for each, {wanted}"
        end(problem, WRONG_CALL)
    op = "hold" if hold else "release" if release else "tenant"
    _give(call, {"order": op, "tenant": name, "reset": reset, **given})


@click.command(short_help="Set what a GPU-hour of a pool costs, whatever its region says.")
@click.argument("region")
@click.argument("gpu_model")
@click.argument("usd", type=FINITE, required=False)
@click.option("--spot", is_flag=True, help="Of spot capacity rather than on-demand.")
@click.option("--reset", is_flag=True, help="Believe the region's own price again.")
@_options
def price(call: _Call, region: str, gpu_model: str, usd: float | None, spot: bool, reset: bool) -> None:
    """Set what a GPU-hour of a pool costs, as a contract of ours says it; plans use it at once.

    \b
    Examples:
      thalweg price aws:us-east-1 A100 1.85
      thalweg price aws:us-east-1 A100 --reset
    """
    if (usd is None) != reset:
        end("wanted is a price in US dollars, or --reset", WRONG_CALL)
    said = {"order": "price", "region": region, "gpu_model": gpu_model, "spot": spot}
    _give(call, said | {"usd_per_gpu_hour": usd, "reset": reset})


@click.command(short_help="Show the orders that stand, or all that were given.")
@click.option("--history", is_flag=True, help="Every order: when, who, what before and what after.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reading_command
def orders(history: bool, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Show the orders that stand: drains, held tenants, limits and prices of ours.

    \b
    Examples:
      thalweg orders
      thalweg orders --history
      thalweg orders --as-of '1d ago'
    """
    with TableReader(warehouse, as_of) as reader:
        rows = [
            {"at": row["decided_at"], "reason": row["reason"], **json.loads(row["ordered"])}
            for row in reader.dicts(
                "SELECT decided_at, reason, ordered FROM decisions WHERE transition = 'ordered' "
                "ORDER BY driver_epoch, batch_id, row"
            )
        ]
    if not history:
        last = {row["subject"]: row for row in rows}
        rows = [row for row in last.values() if (row.get("after") or {"type": "move"})["type"] not in _ONCE]
    shown = [{"who": "", "before": None, "after": None, **row} for row in rows]
    if as_json:
        print_json({"orders": shown})
        return
    if not shown:
        click.echo(
            "No order was given" if history else "No order stands. All that were given: thalweg orders --history"
        )
        return
    print_table(
        [
            Column(name="subject", fit=Fit.KEEP),
            Column(name="at", say=words.ago(datetime.now(UTC)), title="given"),
            "who",
            Column(name="reason", title="what", fit=Fit.WRAP),
        ],
        shown,
    )


def _give(call: _Call, said: Mapping[str, Any], *, asks: bool = False) -> NoReturn:
    """Say what follows, ask where it moves or stops something, send it, and tell what became of it."""
    from thalweg.client.client import InvalidRequestError  # late: the planner and the broker's client take a second
    from thalweg.client.orders import checked_order
    from thalweg.conf.settings import SettingsError, load_settings

    now_ms = _ms(datetime.now(UTC))
    try:
        settings = load_settings(call.config, with_bootstrap(call.overrides, call.bootstrap))
        named = {key: value for key, value in said.items() if value is not None and value is not False}
        order = checked_order(named | {"who": call.who or _user()})
    except (SettingsError, InvalidRequestError) as error:
        end(str(error), WRONG_CALL)
    ahead: Foreseen | None = None
    trouble = ""
    if call.dry_run or (asks and not (call.yes and call.as_json)):
        try:
            ahead = _foreseen(call, order, settings, now_ms)
        except (WarehouseUnreadableError, WrongCall) as error:
            trouble = str(error)
    if call.dry_run:
        if ahead is None:
            end(f"what would follow cannot be said: {trouble}", FAILED)
        _tell_foreseen(order, ahead, call.as_json)
        sys.exit(FAILED if ahead.refused else 0)
    if asks and not call.yes:
        _ask(order, ahead, trouble)
    elif ahead is not None and not ahead.refused:
        click.echo("\n".join(["What follows:", *in_words(order, ahead)]), err=True)
    _send(call, order, settings, now_ms)


def _send(call: _Call, order: "ControlOrder", settings: "Settings", now_ms: int) -> NoReturn:
    from thalweg.client.orders import give_order
    from thalweg.streams.broker.errors import StreamError

    try:
        answer = give_order(with_broker(settings).kafka, order, now_ms, call.answer_s)
    except NoBrokerError as error:
        end(str(error), WRONG_CALL)
    except StreamError as error:
        end(str(error), FAILED)
    note_done(f"{order.order} sent")
    _tell_answer(order, answer, call)
    sys.exit(FAILED if answer is not None and answer.answer == "refused" else 0)


def _tell_answer(order: "ControlOrder", answer: "OrderAnswer | None", call: _Call) -> None:
    if call.as_json:
        told = None if answer is None else {"answer": answer.answer, "subject": answer.subject, "reason": answer.reason}
        print_json(
            {"order": order.order, "dry_run": False, **(told or {"answer": None, "subject": None, "reason": None})}
        )
    elif answer is None:
        wait = f" within {call.answer_s:g} s" if call.answer_s else ""
        click.echo(
            f"{order.order} sent, not answered{wait}: the broker has it, and the place job obeys it when it runs "
            "(thalweg ps)"
        )
    elif answer.answer == "refused":
        click.echo(on_one_line(f"{order.order} refused: {answer.reason}"), err=True)
    else:
        click.echo(on_one_line(answer.reason or f"{answer.subject}: taken before"))


def _foreseen(call: _Call, order: "ControlOrder", settings: "Settings", now_ms: int) -> "Foreseen":
    from thalweg.query.questions.world_copy import foreseen

    return foreseen(_world(call, settings, now_ms), order, settings.place, now_ms)


def _world(call: _Call, settings: "Settings", now_ms: int) -> "World":
    from thalweg.query.questions.world_copy import world_copy

    return world_copy(find_warehouse(call.warehouse, call.config), settings.place, now_ms)


def _tell_foreseen(order: "ControlOrder", ahead: "Foreseen", as_json: bool) -> None:
    if as_json:
        print_json({"order": order.order, "dry_run": True, **as_document(ahead)})
    elif ahead.refused:
        click.echo(f"{order.order} would be refused: {ahead.refused}", err=True)
    else:
        click.echo("\n".join(["Dry run, nothing is sent. What would follow:", *in_words(order, ahead)]))


def _ask(order: "ControlOrder", ahead: "Foreseen | None", trouble: str) -> None:
    """Let a person say yes; who is none has to have said it before."""
    if ahead is not None and ahead.refused:
        end(f"{order.order} would be refused: {ahead.refused}", FAILED)
    said = (
        f"what will follow cannot be said: {trouble}"
        if ahead is None
        else "\n".join(["What will follow:", *in_words(order, ahead)])
    )
    if not sys.stdin.isatty():
        end(f"{said}\nNothing was sent: --yes does it, --dry-run says what would follow", WRONG_CALL)
    if not click.confirm(f"{said}\nDo it?", err=True):
        end("Nothing was sent", FAILED)


def _place_of(call: _Call, where: str, node: str | None) -> dict[str, Any]:
    """Tell a region from a node of it; names of both may hold slashes."""
    if node is not None or "/" not in where:
        return {"region": where, "node_id": node}
    try:
        with TableReader(find_warehouse(call.warehouse, call.config)) as reader:
            known = {row["region"] for row in reader.dicts("SELECT DISTINCT region FROM nodes")}
    except (WarehouseUnreadableError, WrongCall):
        known = set()
    if where in known:
        return {"region": where, "node_id": None}
    cuts = [at for at, letter in enumerate(where) if letter == "/"]
    at = next((at for at in cuts if where[:at] in known), cuts[0])
    return {"region": where[:at], "node_id": where[at + 1 :]}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)
