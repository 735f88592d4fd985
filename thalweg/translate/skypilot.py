"""A SkyPilot task as a request: its nodes are workers on nodes of their own, `setup` runs before `run`."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from thalweg.translate.documents import SourceDocument
from thalweg.translate.exported import exports
from thalweg.translate.sheet import Sheet
from thalweg.translate.skypilot_alternatives import alternatives
from thalweg.translate.translation import Loss, NotUnderstoodError, Request
from thalweg.translate.units import gpu_model

_OWN_WORDS: Final = frozenset({"run", "setup", "resources", "num_nodes", "file_mounts", "workdir", "envs", "service"})
_AMOUNT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\+?")
_VARIABLE: Final = re.compile(r"SKYPILOT_[A-Z_]+")


_TOLD_BY: Final = {
    "SKYPILOT_NODE_RANK": "$THALWEG_RANK",
    "SKYPILOT_NUM_NODES": "$THALWEG_WORLD_SIZE",
    "SKYPILOT_TASK_ID": "$THALWEG_TASK_ID",
}


def is_skypilot(value: Any) -> bool:
    """Tell whether a document looks like a SkyPilot task."""
    return isinstance(value, dict) and "task_id" not in value and bool(_OWN_WORDS & value.keys())


def from_skypilot(document: SourceDocument) -> tuple[Request, list[Loss]]:
    """Read a task.

    Raises:
        NotUnderstoodError: something in it is not what a task has there, or it is a service.
    """
    sheet = Sheet(document)
    if sheet.look("service") is not None:
        raise sheet.refuse("service", "a service is no task that ends: submit its replicas as tasks of kind infer")
    workers = sheet.take("num_nodes", int, default=1)
    other = alternatives(sheet)
    spot = sheet.truth("resources.use_spot")
    regions = _regions(sheet)
    request: Request = {
        "name": sheet.take("name", str),
        "workers": workers if workers > 1 else None,
        "spread_workers": workers > 1 or None,
        "per_worker": _per_worker(sheet),
        "spot_ok": (spot if other.spot is None else other.spot) or None,
        "allowed_regions": other.regions or regions,
        "image": _image(sheet),
        "command": _command(sheet),
        "env": _env(sheet),
        "secrets": _secrets(sheet),
        "retries": _retries(sheet),
    }
    _say_why(sheet, other.said)
    return {name: value for name, value in request.items() if value not in (None, {}, [])}, sheet.losses()


def _per_worker(sheet: Sheet) -> dict[str, Any]:
    need: dict[str, Any] = {"cpus": _least(sheet, "resources.cpus"), "memory_gb": _least(sheet, "resources.memory")}
    wanted = sheet.take("resources.accelerators", str, dict, list, default="")
    choices = _choices(sheet, wanted) if wanted else _choices_of_alternatives(sheet)
    counts = {count for _, count in choices}
    if len(counts) > 1:
        raise sheet.refuse("resources.accelerators", "models in different numbers: a request has one number for all")
    if counts:
        (count,) = counts
        whole = float(count).is_integer()
        need["gpus" if whole else "gpu_milli"] = int(count) if whole else round(count * 1_000)
        need["gpu_models"] = [model for model, _ in choices]
    return {name: value for name, value in need.items() if value not in (None, 0)}


def _choices(sheet: Sheet, wanted: Any) -> list[tuple[str, float]]:
    """Read A100:8, {A100: 8, V100: 8} or a list of such words as models with their numbers."""
    if isinstance(wanted, dict):
        pairs = [(str(model), count) for model, count in wanted.items()]
    else:
        words = [str(word) for word in wanted] if isinstance(wanted, list) else [wanted] if wanted else []
        pairs = [(word.partition(":")[0], word.partition(":")[2] or 1) for word in words]
    found = []
    for model, count in pairs:
        number = _AMOUNT.fullmatch(str(count if count is not None else 1))
        if number is None:
            raise sheet.refuse("resources.accelerators", f"number {count!r} of {model}: wanted is as in A100:8")
        found.append((gpu_model(model) or model, float(number.group(1))))
    return found


def _choices_of_alternatives(sheet: Sheet) -> list[tuple[str, float]]:
    """Read the models that any_of or ordered name: without them the task would be sent as one that needs no GPU."""
    found: dict[tuple[str, float], None] = {}
    for path in ("resources.any_of", "resources.ordered"):
        named = [one.get("accelerators") for one in sheet.items(path) if isinstance(one, dict)]
        if any(named) and not all(named):
            raise sheet.refuse(
                path, "some of it asks for accelerators and some does not: a request has one number for all"
            )
        found.update(dict.fromkeys(choice for wanted in filter(None, named) for choice in _choices(sheet, wanted)))
    return list(found)


def _least(sheet: Sheet, path: str) -> float | None:
    """Read 4, "4" or "4+": at least so many is what a request means, too."""
    value = sheet.take(path, str)
    if value is None:
        return None
    match = _AMOUNT.fullmatch(value.strip())
    if match is None:
        raise sheet.refuse(path, f"wanted is a number such as 8 or 8+, seen {value!r}")
    return float(match.group(1))


def _regions(sheet: Sheet) -> list[str] | None:
    """Read infra: aws/us-east-1, or cloud and region, as the name that such a region commonly has here."""
    infra = sheet.look("resources.infra")
    if isinstance(infra, str) and infra.count("/") >= 1:
        cloud, region, *zone = infra.split("/")
        sheet.ignore("resources.infra")
        if zone:
            sheet.lose("resources.infra", "its zone is not said: a request names regions")
        return [f"{cloud}:{region}"] if region != "*" else None
    cloud, region = sheet.look("resources.cloud"), sheet.look("resources.region")
    if cloud is not None and region is not None:
        sheet.ignore("resources.cloud", "resources.region")
        return [f"{cloud}:{region}"]
    for path in ("resources.infra", "resources.cloud", "resources.region"):
        sheet.lose(path, "not said: a request names regions as they are called here, in allowed_regions")
    return None


def _image(sheet: Sheet) -> str | None:
    image = sheet.look("resources.image_id")
    if isinstance(image, str) and image.startswith("docker:"):
        sheet.ignore("resources.image_id")
        return image.removeprefix("docker:")
    return None


def _command(sheet: Sheet) -> list[str] | None:
    setup, run = sheet.take("setup", str, default=""), sheet.take("run", str, default="")
    for part, text in (("setup", setup), ("run", run)):
        for variable in sorted(set(_VARIABLE.findall(text)) - _TOLD_BY.keys()):
            sheet.lose(part, f"{variable} is not set by an agent of ours")
    # What fails in setup ends the task before it runs, as it does there.
    known = exports(setup + "\n" + run, _TOLD_BY).rstrip()
    steps = [known, f"set -e\n{setup.rstrip()}\nset +e" if setup else "", run.rstrip()]
    return ["bash", "-c", "\n".join(filter(None, steps))] if setup or run else None


def _env(sheet: Sheet) -> dict[str, str]:
    found = {}
    for name in sheet.mapping("envs"):
        if sheet.look(("envs", name)) is None:
            sheet.ignore(("envs", name))
            raise sheet.refuse(("envs", name), "it has no value: there it comes with --env; write it here")
        value = sheet.look(("envs", name))
        sheet.ignore(("envs", name))
        found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _secrets(sheet: Sheet) -> list[str]:
    names = list(sheet.mapping("secrets"))
    for name in names:
        sheet.lose(("secrets", name), "its value is not sent: the region's own store gives it by its name", secret=True)
    sheet.ignore("secrets")
    return names


def _retries(sheet: Sheet) -> dict[str, int] | None:
    tries = sheet.take("resources.job_recovery.max_restarts_on_errors", int)
    sheet.ignore("resources.job_recovery.strategy")  # a task that was lost is always placed anew
    return None if tries is None else {"at_most": tries}


def _say_why(sheet: Sheet, said: Collection[str]) -> None:
    for path, why in (
        ("workdir", "not said: nothing is copied; name an image that has it, or fetch it in setup"),
        ("file_mounts", "not said: inputs are named in data, results go to an object store"),
        ("volumes", "not said: see file_mounts"),
        ("resources.disk_size", "not said: a worker asks for GPUs, CPUs and memory"),
        ("resources.disk_tier", "not said: a worker asks for GPUs, CPUs and memory"),
        ("resources.ports", "not said: an agent opens no ports"),
        ("resources.labels", "not kept"),
        ("resources.instance_type", "not said: GPUs, CPUs and memory say what is needed"),
        (
            "resources.any_of",
            "of it only accelerators, regions and use_spot are said: gpu_models and allowed_regions say what will do",
        ),
        (
            "resources.ordered",
            "of it no order is said: what is cheapest goes first",
        ),
        ("resources.autostop", "not said: GPUs are free when the task ends"),
        ("resources.zone", "not said: a request names regions"),
    ):
        if path in said:
            sheet.ignore(path)
        else:
            sheet.lose(path, why)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A file of several tasks."""

    name: str | None
    tasks: list[SourceDocument]
    in_turn: bool
    """Each task follows the one before; else they run side by side."""


def pipeline(documents: list[SourceDocument]) -> Pipeline:
    """Take apart a file of several tasks, whose first document may only say what is said of the whole.

    Raises:
        NotUnderstoodError: a document is no task.
    """
    first = documents[0].value
    named = isinstance(first, dict) and first.keys() <= {"name", "execution"} and len(documents) > 1
    tasks = documents[1:] if named else documents
    for number, document in enumerate(tasks, start=1):
        if not is_skypilot(document.value):
            raise NotUnderstoodError(f"document {number}: wanted is a task with run or resources")
    execution = first.get("execution", _IN_TURN) if named else _IN_TURN
    if execution not in (_IN_TURN, _SIDE_BY_SIDE):
        raise NotUnderstoodError(f"execution: wanted is {_IN_TURN} or {_SIDE_BY_SIDE}, seen {execution!r}")
    name = str(first["name"]) if named and first.get("name") else None
    return Pipeline(name, tasks, in_turn=execution == _IN_TURN)


_IN_TURN: Final = "serial"
_SIDE_BY_SIDE: Final = "parallel"
