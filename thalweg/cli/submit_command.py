"""`thalweg submit`: tasks from a file of ours or of another system, or one from options."""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from thalweg.cli.reach.broker_calls import broker_options, call_broker
from thalweg.cli.reach.ending import WRONG_CALL, end
from thalweg.cli.reach.finite import FINITE
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.terminal.outcomes import report
from thalweg.cli.terminal.render import print_json
from thalweg.client.client import Client, InvalidRequestError, checked_request
from thalweg.streams.contract.envelope import content_id
from thalweg.streams.contract.moments import read_date
from thalweg.translate.recognise import translate
from thalweg.translate.translation import Loss, NotUnderstoodError, Translation

_LARGEST_FILE_BYTES: Final = 256 * 1_048_576
"""A quarter of a million requests; what is larger goes through the client, or in pieces."""
_MOST_TOLD: Final = 5
"""Wrong requests of a file that are told one by one: whoever has more has made one mistake many times."""


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--task", "task_id", help="Id of the task; without one an id is derived from the content.")
@click.option("--gpus", type=click.IntRange(min=0), help="Whole GPUs per worker.")
@click.option("--gpu-milli", type=click.IntRange(0, 1000), help="Thousandths of one GPU per worker.")
@click.option("--gpu-model", "gpu_models", multiple=True, help="GPU model that will do; repeatable.")
@click.option("--cpus", type=FINITE, help="CPUs per worker.")
@click.option("--memory-gb", type=FINITE, help="Memory per worker.")
@click.option("--workers", type=click.IntRange(min=1), help="Workers, placed together.")
@click.option("--expected-s", type=FINITE, help="Seconds it is expected to run.")
@click.option("--priority", type=int, help="0 to 1000, higher goes first.")
@click.option(
    "--value-usd-per-hour",
    type=FINITE,
    help="What an hour's delay of it costs, in US dollars; without it, what its GPUs and priority say.",
)
@click.option("--tenant", help="Who pays.")
@click.option("--not-before", metavar="TIME", help="Moment before which it does not start: 2026-12-31T10:00:00Z.")
@click.option("--deadline", metavar="TIME", help="When it should have finished: 2026-12-31T18:00:00+01:00.")
@click.option("--data", multiple=True, metavar="REGION=GB", help="Input that lies in a region; repeatable.")
@click.option("--origin", help="Region the round trip is measured from.")
@click.option("--max-rtt-ms", type=FINITE, help="Round trip allowed from --origin.")
@click.option("--allowed-region", "allowed_regions", multiple=True, help="Region it may run in; repeatable.")
@click.option("--replicas", type=click.IntRange(min=1), help="Full copies in as many regions.")
@click.option("--spot", is_flag=True, help="Spot capacity will do.")
@click.option("--command", help="Command for the process runner: words as in a shell, or a JSON list of them.")
@click.option("--new", is_flag=True, help="Run it again under a new id: the time is added to it.")
@click.option(
    "--keep-unknown", is_flag=True, help="Send fields that no request has, too; placement does not read them."
)
@click.option("--dry-run", is_flag=True, help="Print the requests and send nothing.")
@click.option("--strict", is_flag=True, help="Send nothing where something of the file cannot be said in a request.")
@broker_options
def submit(
    file: Path | None,
    as_json: bool,
    wait_s: float | None,
    answer_s: float | None,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    new: bool,
    keep_unknown: bool,
    dry_run: bool,
    strict: bool,
    **options: Any,
) -> None:
    """Submit the tasks in FILE, or one task made from the options.

    FILE is JSON (one object, a list of them, or one a line) or YAML (also several documents) of requests, a Kubernetes
    Job, a SkyPilot task, or an sbatch script; - reads standard input. What of another system's file cannot be said in a
    request is told line by line before anything is sent.

    A task submitted twice with the same content is one task, also when it has ended: what is known of it is said, and
    --new runs it again. Exit code 1 says that one was refused.

    \b
    Examples:
      thalweg submit --gpus 2 --command 'python train.py'
      thalweg submit tasks.yaml --wait 600
      thalweg submit train.sbatch --dry-run
      thalweg submit job.yaml --strict
    """
    try:
        given = _read(file, options) if file is not None else _of_options(options)
    except ValueError as error:
        end(str(error), WRONG_CALL)
    requests = [_renewed(request) for request in given.requests] if new else list(given.requests)
    _tell_losses(given)
    if strict and given.losses:
        end(f"nothing was sent: {len(given.losses)} things cannot be said (--strict)", WRONG_CALL)
    _check(requests, given, file, keep_unknown)
    if dry_run:
        _print_only(requests, given, as_json)
        return
    lost = {"format": given.format, "losses": list(map(_as_document, given.losses))}

    def run(client: Client) -> int:
        task_ids = client.submit_all(requests, keep_unknown=keep_unknown)
        note_done("sent", task_ids)
        return report(
            client, task_ids, "submit", answer_s=answer_s, wait_s=wait_s, as_json=as_json, config=config, beside=lost
        )

    call_broker(config, overrides, bootstrap, run)


def _renewed(request: dict[str, Any]) -> dict[str, Any]:
    """Give a request a new id."""
    return request | {"task_id": f"{request.get('task_id', 'task')}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"}


def _tell_losses(given: Translation) -> None:
    if given.losses:
        click.echo(f"Read as {given.format}; what a request does not say of it:", err=True)
    for loss in given.losses:
        click.echo(f"  {loss}", err=True)


def _check(requests: Sequence[dict[str, Any]], given: Translation, file: Path | None, keep_unknown: bool) -> None:
    """Check every request before one is sent; end the command with all that is wrong, each with its place."""
    wrong: list[str] = []
    for number, request in enumerate(requests):
        try:
            checked_request(request, "submit", keep_unknown)
        except InvalidRequestError as error:
            if file is None or (len(requests) == 1 and given.line_of(0, ()) is None):
                wrong.append(error.problem)
                continue
            line = given.line_of(number, _field_of(error.problem))
            task_id = request.get("task_id")
            at = [f"line {line}"] if line else []
            at += [f"task_id {task_id!r:.100}"] if task_id else ["without a task_id"]
            wrong.append(f"task {number + 1} of {file} ({', '.join(at)}): {error.problem}")
    if not wrong:
        return
    more = [f"and {len(wrong) - _MOST_TOLD:,} more are wrong"] if len(wrong) > _MOST_TOLD else []
    none = f" None of the {len(requests):,} was sent." if len(requests) > 1 else ""
    said = ".\n".join([*wrong[:_MOST_TOLD], *more])
    end(f"the request was not sent: {said}.{none} docs/reference/events.md lists the fields", WRONG_CALL)


def _field_of(problem: str) -> tuple[str | int, ...]:
    """Read the place that a refusal begins with."""
    found = re.match(r"(?:unknown field ')?([A-Za-z_]\w*(?:\.\w+|\[\d+\])*)", problem)
    steps = re.findall(r"\w+", found.group(1)) if found else []
    return tuple(int(step) if step.isdecimal() else step for step in steps)


def _print_only(requests: Sequence[dict[str, Any]], given: Translation, as_json: bool) -> None:
    if as_json:
        print_json({"format": given.format, "requests": requests, "losses": list(map(_as_document, given.losses))})
        return
    for request in requests:
        click.echo(msgspec.json.format(msgspec.json.encode(request), indent=2))


def _as_document(loss: Loss) -> dict[str, Any]:
    return {"line": loss.line, "what": loss.what, "why": loss.why}


def _read(file: Path, options: Mapping[str, Any]) -> Translation:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, (), False)]
    if given:
        raise ValueError(
            f"{', '.join(given)} beside {file}: what a file says of a task is said there; allowed is one of the two"
        )
    try:
        found = translate(_text(file))
    except NotUnderstoodError as error:
        raise ValueError(f"{file}: {error}") from error
    by_id: dict[str, dict[str, Any]] = {}
    for number, request in enumerate(found.requests, start=1):
        task_id = str(request.get("task_id"))
        if by_id.setdefault(task_id, request) != request:
            raise ValueError(f"task {number} of {file}: task_id {task_id!r} stands before with other content")
    return found


def _text(file: Path) -> str:
    content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    if len(content) > _LARGEST_FILE_BYTES:
        raise ValueError(f"{file} has {len(content):,} bytes: allowed are {_LARGEST_FILE_BYTES:,}; submit it in pieces")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no UTF-8 text: {error.reason} at byte {error.start}") from error


def _of_options(options: Mapping[str, Any]) -> Translation:
    return Translation(format="options", requests=(_from_options(**options),))


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
        command = _listed(command) if command.lstrip().startswith("[") else _words(command)
    request = (
        {
            name: options[name]
            for name in ("workers", "expected_s", "priority", "value_usd_per_hour", "tenant", "max_rtt_ms", "replicas")
        }
        | {
            "per_worker": {name: value for name, value in per_worker.items() if value is not None},
            "data": data or None,
            "origin_region": options["origin"],
            "allowed_regions": list(options["allowed_regions"]) or None,
            "spot_ok": options["spot"] or None,
            "command": command,
        }
        | {name: _moment(name, options[name]) for name in ("not_before", "deadline")}
    )
    request = {name: value for name, value in request.items() if value not in (None, {})}
    if not request and options["task_id"] is None:
        raise ValueError("nothing to submit: name a FILE, or say what the task needs (thalweg submit --help)")
    task_id = options["task_id"] or f"task-{content_id(json.dumps(request, sort_keys=True))[:12]}"
    return {"task_id": task_id} | request


def _moment(name: str, text: str | None) -> int | None:
    if text is None or re.fullmatch("[0-9]{1,18}", text):
        return None if text is None else int(text)
    try:
        return read_date(text)
    except ValueError as error:
        raise ValueError(f"--{name.replace('_', '-')} {text!r:.60}: {error}") from error


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"--command {command!r}: {error}") from error


def _listed(command: str) -> Any:
    try:
        return json.loads(command)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--command {command!r} begins as a JSON list does: {error}") from error
