"""Tell by its own words in which format a description of work is written, and read it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from thalweg.streams.contract.envelope import content_id
from thalweg.streams.contract.moments import read_date
from thalweg.translate.documents import SourceDocument, read_documents
from thalweg.translate.kubernetes import from_job, is_kubernetes
from thalweg.translate.sbatch import from_sbatch, is_sbatch
from thalweg.translate.skypilot import from_skypilot, is_skypilot, pipeline
from thalweg.translate.translation import Loss, NotUnderstoodError, Path, Request, Translation


def translate(text: str) -> Translation:
    """Read a file's text as requests.

    A request without an id gets one that is derived from its content, so that the same file is the same task.

    Raises:
        NotUnderstoodError: it is of no known format, or is wrong in its own.
    """
    text = text.removeprefix("\ufeff")
    if is_sbatch(text):
        request, losses = from_sbatch(text)
        return Translation(format="sbatch", requests=(identified(request),), losses=tuple(losses))
    documents = read_documents(text)
    if not documents:
        raise NotUnderstoodError("the file holds no task")
    if any(is_kubernetes(document.value) for document in documents):
        return _kubernetes(documents)
    if is_skypilot(documents[-1].value):
        return _skypilot(documents)
    found = _requests(documents)
    return Translation(
        format="thalweg",
        requests=tuple(_with_moments(request, lines) for request, lines in found),
        lines=tuple(lines for _, lines in found),
    )


def identified(request: Request) -> Request:
    """Give a request an id where it has none."""
    if request.get("task_id"):
        return request
    name = str(request.get("name") or "task")
    return {"task_id": f"{name}-{content_id(json.dumps(request, sort_keys=True))[:12]}", **request}


def _kubernetes(documents: Sequence[SourceDocument]) -> Translation:
    requests: list[Request] = []
    losses: list[Loss] = []
    for document in documents:
        kind = document.value.get("kind") if isinstance(document.value, dict) else None
        if kind == "Job":
            request, lost = from_job(document)
            requests.append(identified(request))
            losses += lost
        else:
            line = document.lines.get(("kind",)) or document.lines.get(())
            losses.append(Loss(line=line, what=f"kind: {kind}", why="not said: of Kubernetes, a Job is a task"))
    if not requests:
        raise NotUnderstoodError(f"{losses[0]}. Allowed is kind: Job of batch/v1")
    return Translation(format="kubernetes", requests=tuple(requests), losses=tuple(losses))


def _skypilot(documents: list[SourceDocument]) -> Translation:
    whole = pipeline(documents)
    requests: list[Request] = []
    losses: list[Loss] = []
    for number, document in enumerate(whole.tasks):
        request, lost = from_skypilot(document)
        if whole.name and not request.get("name"):
            request["name"] = f"{whole.name}-{number}"
        if requests and whole.in_turn:
            request["after"] = [{"task_id": requests[-1]["task_id"], "on": "success"}]
        requests.append(identified(request))
        losses += lost
    return Translation(format="skypilot", requests=tuple(requests), losses=tuple(losses))


def _requests(documents: Sequence[SourceDocument]) -> list[tuple[Request, Mapping[Path, int]]]:
    """Take the requests out of documents of ours, one each, or lists of them; each with its lines."""
    found: list[tuple[Request, Mapping[Path, int]]] = []
    for document in documents:
        is_list = isinstance(document.value, list)
        for index, value in enumerate(document.value if is_list else [document.value]):
            lines = _within(document.lines, (index,)) if is_list else document.lines
            if not isinstance(value, dict):
                line = lines.get((), document.lines.get(()))
                at = f"line {line}: " if line else ""
                raise NotUnderstoodError(f"{at}task {len(found) + 1}: wanted is a mapping, seen {_kind_of(value)}")
            found.append((value, lines))
    if not found:
        raise NotUnderstoodError("the file holds no task")
    return found


def _within(lines: Mapping[Path, int], start: Path) -> Mapping[Path, int]:
    """Give the lines of what stands below a place, by the paths from there."""
    return {path[len(start) :]: line for path, line in lines.items() if path[: len(start)] == start}


def _with_moments(request: Request, lines: Mapping[Path, int]) -> Request:
    """Take dates for the moments that a person writes: a message has milliseconds."""
    read: Request = {}
    for name in MOMENTS:
        if isinstance(text := request.get(name), str):
            try:
                read[name] = read_date(text)
            except ValueError as error:
                line = lines.get((name,))
                named = f", task_id {request['task_id']!r:.100}" if request.get("task_id") else ""
                at = f"line {line}{named}: " if line else named.removeprefix(", ") + (": " if named else "")
                raise NotUnderstoodError(f"{at}{name} {text!r:.60}: {error}") from error
    return request | read


MOMENTS: Final = ("not_before", "deadline", "observed_at")


def _kind_of(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
