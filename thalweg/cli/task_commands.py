"""`thalweg submit` and `thalweg cancel`."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from thalweg.cli.durations import in_words
from thalweg.client.client import Client, ClientError, InvalidRequestError, Outcome, OutcomeState
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.envelope import content_id

_FAILED: Final = 1
_WRONG_CALL: Final = 2


def _common(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file."),
        click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable."),
        bootstrap_option,
        click.option(
            "--answer",
            "answer_s",
            type=click.FloatRange(min=0),
            default=5.0,
            show_default=True,
            metavar="SECONDS",
            help="Wait so long to hear whether it was taken; 0 does not.",
        ),
        click.option("--wait", "wait_s", type=float, metavar="SECONDS", help="Wait so long for the task to end."),
        click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--task", "task_id", help="Id of the task; without one an id is derived from the content.")
@click.option("--gpus", type=click.IntRange(min=0), help="Whole GPUs per worker.")
@click.option("--gpu-milli", type=click.IntRange(0, 1000), help="Thousandths of one GPU per worker.")
@click.option("--gpu-model", "gpu_models", multiple=True, help="GPU model that will do; repeatable.")
@click.option("--cpus", type=float, help="CPUs per worker.")
@click.option("--memory-gb", type=float, help="Memory per worker.")
@click.option("--workers", type=click.IntRange(min=1), help="Workers, placed together.")
@click.option("--expected-s", type=float, help="Seconds it is expected to run.")
@click.option("--priority", type=int, help="0 to 1000, higher goes first.")
@click.option("--tenant", help="Who pays.")
@click.option("--data", multiple=True, metavar="REGION=GB", help="Input that lies in a region; repeatable.")
@click.option("--origin", help="Region the round trip is measured from.")
@click.option("--max-rtt-ms", type=float, help="Round trip allowed from --origin.")
@click.option("--allowed-region", "allowed_regions", multiple=True, help="Region it may run in; repeatable.")
@click.option("--replicas", type=click.IntRange(min=1), help="Full copies in as many regions.")
@click.option("--spot", is_flag=True, help="Spot capacity will do.")
@click.option("--command", help="Command for the process runner: words as in a shell, or a JSON list of them.")
@click.option("--new", is_flag=True, help="Run it again under a new id: the time is added to it.")
@click.option(
    "--keep-unknown", is_flag=True, help="Send fields that no request has, too; placement does not read them."
)
@_common
def submit(
    file: Path | None,
    as_json: bool,
    wait_s: float | None,
    answer_s: float,
    new: bool,
    keep_unknown: bool,
    **options: Any,
) -> None:
    """Submit the tasks in FILE, or one task made from the options.

    FILE holds one JSON object, a list of them, or one a line; - reads standard input. A task submitted twice with the
    same content is one task, also when it has ended: what is known of it is said, and --new runs it again. Exit code 1
    says that one was refused.
    """
    config, overrides = options.pop("config"), with_bootstrap(options.pop("overrides"), options.pop("bootstrap"))
    try:
        requests = _read(file, options) if file is not None else [_from_options(**options)]
    except ValueError as error:
        _end(str(error), _WRONG_CALL)
    if new:
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        requests = [request | {"task_id": f"{request.get('task_id', 'task')}-{now}"} for request in requests]

    def run(client: Client) -> int:
        task_ids = client.submit_all(requests, keep_unknown=keep_unknown)
        return _report(client, task_ids, "submit", "submitted", answer_s, wait_s, as_json)

    _call(config, overrides, run)


@click.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK...")
@_common
def cancel(task_ids: tuple[str, ...], as_json: bool, wait_s: float | None, answer_s: float, **options: Any) -> None:
    """Cancel tasks: they are not placed any more, and stopped where they run.

    Exit code 1 says that one is not known.
    """

    def run(client: Client) -> int:
        client.cancel_all(task_ids)
        return _report(client, task_ids, "cancel", "cancelled", answer_s, wait_s, as_json)

    _call(options["config"], with_bootstrap(options["overrides"], options["bootstrap"]), run)


def _report(
    client: Client,
    task_ids: Sequence[str],
    op: str,
    done: str,
    answer_s: float,
    wait_s: float | None,
    as_json: bool,
) -> int:
    """Say what became of each request, and how its task ended where that is waited for; return the exit code."""
    answers = client.answered(task_ids, op, timeout_s=answer_s) if answer_s else {}
    rows: list[dict[str, Any]] = []
    code = 0
    for task_id in task_ids:
        answer = answers.get(task_id)
        row: dict[str, Any] = {"task_id": task_id, "state": done, "answer": answer.answer if answer else None}
        if answer is not None and answer.answer == "refused":
            row |= {"state": "refused", "error": f"{task_id} was refused: {answer.reason}"}
            code = _FAILED
        elif wait_s is not None:
            try:
                row |= _ended(client.wait(task_id, wait_s))
                code = max(code, int(row["state"] == "failed"))
            except ClientError as error:
                row |= {"state": "unknown", "error": str(error)}
                code = _FAILED
        elif answer is not None and answer.answer == "known":
            row |= {"state": answer.state, "detail": answer.reason}
        rows.append(row)
    if as_json:
        click.echo(json.dumps({"tasks": rows}))
        return code
    for row in rows:
        click.echo(_in_words(row, op))
    if answer_s and (silent := len(task_ids) - len(answers)) and wait_s is None:
        click.echo(
            f"{silent} of {len(task_ids)} not answered within {answer_s:g} s: the broker has them, and the place job "
            "takes them when it runs (thalweg ps)",
            err=True,
        )
    return code


def _ended(outcome: Outcome) -> dict[str, Any]:
    return {
        "state": outcome.state.value,
        "region": outcome.region,
        "epoch": outcome.epoch,
        "exit_code": outcome.exit_code,
        "detail": outcome.detail,
    }


def _in_words(row: Mapping[str, Any], op: str) -> str:
    if "error" in row:
        return str(row["error"])
    known = ""
    if row["answer"] == "known":
        known = "already known: " if op == "submit" else "already "
    ago = _ago(row["task_id"]) if known else ""
    where = f" in {row['region']}" if row.get("region") else ""
    detail = f": {row['detail']}" if known and row.get("detail") else f" {row.get('detail', '')}"
    again = " (--new runs it again)" if known and op == "submit" and row["state"] in set(OutcomeState) else ""
    return f"{row['task_id']} {known}{row['state']}{where}{ago}{detail}".rstrip() + again


def _ago(task_id: str) -> str:
    """Say how long ago a task came to its state, where the tables can be read from here."""
    from thalweg.cli.reading import WrongCall, find_warehouse
    from thalweg.query.query import WarehouseUnreadableError, query, quote

    try:
        place = find_warehouse(None, click.get_current_context().params.get("config"))
        rows = query(f"SELECT changed_at FROM tasks WHERE task_id = {quote(task_id)}", place).dicts()
    except (WarehouseUnreadableError, WrongCall):
        return ""
    if not rows or rows[0]["changed_at"] is None:
        return ""
    return f" {in_words((datetime.now(UTC) - rows[0]['changed_at']).total_seconds())} ago"


def _read(file: Path, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, (), False)]
    if given:
        raise ValueError(
            f"{', '.join(given)} beside {file}: what a file says of a task is said there; allowed is one of the two"
        )
    if file.suffix in (".yaml", ".yml"):
        raise ValueError(f"{file} is YAML: wanted is JSON, one object, a list of them, or one a line")
    text = (sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")).removeprefix("\ufeff")
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"{file} is nested too deep to be read") from None
    except json.JSONDecodeError:
        found = [_parsed(line, number) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    requests = found if isinstance(found, list) else [found]
    for number, request in enumerate(requests, start=1):
        if not isinstance(request, dict):
            raise ValueError(f"task {number} of {file}: wanted is a JSON object, seen {type(request).__name__}")
    if not requests:
        raise ValueError(f"{file} holds no task")
    by_id: dict[str, dict[str, Any]] = {}
    for number, request in enumerate(requests, start=1):
        task_id = str(request.get("task_id"))
        if by_id.setdefault(task_id, request) != request:
            raise ValueError(f"task {number} of {file}: task_id {task_id!r} stands before with other content")
    return requests


def _parsed(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from error


def _from_options(**options: Any) -> dict[str, Any]:
    per_worker = {name: options[name] for name in ("gpus", "gpu_milli", "cpus", "memory_gb")}
    per_worker["gpu_models"] = list(options["gpu_models"]) or None
    data = []
    for item in options["data"]:
        region, separator, size = item.rpartition("=")
        if not separator or not size.replace(".", "", 1).isdigit():
            raise ValueError(f"--data {item!r}: wanted is REGION=GB, for example aws:us-east-1=120")
        data.append({"region": region, "size_gb": float(size)})
    command = options["command"]
    if command is not None:
        command = _parsed(command, 1) if command.lstrip().startswith("[") else _words(command)
    request = {
        name: options[name] for name in ("workers", "expected_s", "priority", "tenant", "max_rtt_ms", "replicas")
    } | {
        "per_worker": {name: value for name, value in per_worker.items() if value is not None},
        "data": data or None,
        "origin_region": options["origin"],
        "allowed_regions": list(options["allowed_regions"]) or None,
        "spot_ok": options["spot"] or None,
        "command": command,
    }
    request = {name: value for name, value in request.items() if value not in (None, {})}
    if not request and options["task_id"] is None:
        raise ValueError("nothing to submit: name a FILE, or say what the task needs (thalweg submit --help)")
    task_id = options["task_id"] or f"task-{content_id(json.dumps(request, sort_keys=True))[:12]}"
    return {"task_id": task_id} | request


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"--command {command!r}: {error}") from error


def _call(config: Path | None, overrides: tuple[str, ...], run: Callable[[Client], int]) -> None:
    try:
        settings = with_broker(load_settings(config, overrides))
        with Client(kafka=settings.kafka) as client:
            code = run(client)
    except (SettingsError, InvalidRequestError, NoBrokerError) as error:
        _end(str(error), _WRONG_CALL)
    except (StreamError, ClientError) as error:
        _end(str(error), _FAILED)
    sys.exit(code)


def _end(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)
