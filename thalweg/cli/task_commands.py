"""`thalweg submit` and `thalweg cancel`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from thalweg.client.client import Client, ClientError, InvalidRequestError
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
@click.option("--command", help="Command for the process runner; give it as one JSON list of words.")
@_common
def submit(file: Path | None, as_json: bool, wait_s: float | None, **options: Any) -> None:
    """Submit the tasks in FILE, or one task made from the options.

    FILE holds one JSON object, a list of them, or one a line; - reads standard input. A task submitted twice with the
    same content is one task.
    """
    config, overrides = options.pop("config"), with_bootstrap(options.pop("overrides"), options.pop("bootstrap"))
    try:
        requests = _read(file) if file is not None else [_from_options(**options)]
    except ValueError as error:
        _end(str(error), _WRONG_CALL)
    _call(config, overrides, lambda client: _submit(client, requests, wait_s, as_json))


@click.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK...")
@_common
def cancel(task_ids: tuple[str, ...], as_json: bool, wait_s: float | None, **options: Any) -> None:
    """Cancel tasks: they are not placed any more, and stopped where they run."""

    def run(client: Client) -> int:
        for task_id in task_ids:
            client.cancel(task_id)
        return _report(client, list(task_ids), wait_s, as_json, "cancelled")

    _call(options["config"], with_bootstrap(options["overrides"], options["bootstrap"]), run)


def _submit(client: Client, requests: list[dict[str, Any]], wait_s: float | None, as_json: bool) -> int:
    return _report(client, client.submit_all(requests), wait_s, as_json, "submitted")


def _report(client: Client, task_ids: list[str], wait_s: float | None, as_json: bool, done: str) -> int:
    rows: list[dict[str, Any]] = []
    code = 0
    for task_id in task_ids:
        row: dict[str, Any] = {"task_id": task_id, "state": done}
        if wait_s is not None:
            try:
                outcome = client.wait(task_id, wait_s)
                row |= {
                    "state": outcome.state.value,
                    "region": outcome.region,
                    "epoch": outcome.epoch,
                    "exit_code": outcome.exit_code,
                    "detail": outcome.detail,
                }
                code = max(code, int(outcome.state == "failed"))
            except ClientError as error:
                row |= {"state": "unknown", "error": str(error)}
                code = _FAILED
        rows.append(row)
    if as_json:
        click.echo(json.dumps({"tasks": rows}))
    else:
        for row in rows:
            where = f" in {row['region']}" if "region" in row else ""
            click.echo(row.get("error") or f"{row['task_id']} {row['state']}{where} {row.get('detail', '')}".rstrip())
    return code


def _read(file: Path) -> list[dict[str, Any]]:
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = [_parsed(line, number) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    requests = found if isinstance(found, list) else [found]
    for number, request in enumerate(requests, start=1):
        if not isinstance(request, dict):
            raise ValueError(f"task {number} of {file}: wanted is a JSON object, seen {type(request).__name__}")
    if not requests:
        raise ValueError(f"{file} holds no task")
    return requests


def _parsed(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
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
        command = _parsed(command, 1) if command.lstrip().startswith("[") else command.split()
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
