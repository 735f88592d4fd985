"""Tell by its own words in which format a description of work is written, and read it."""

import json
from collections.abc import Sequence
from typing import Any

from thalweg.streams.contract.envelope import content_id
from thalweg.translate.documents import SourceDocument, read_documents
from thalweg.translate.kubernetes import from_job, is_kubernetes
from thalweg.translate.sbatch import from_sbatch, is_sbatch
from thalweg.translate.skypilot import from_skypilot, is_skypilot, pipeline
from thalweg.translate.translation import Loss, NotUnderstoodError, Request, Translation


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
    return Translation(format="thalweg", requests=tuple(_requests(documents)))


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


def _requests(documents: Sequence[SourceDocument]) -> list[Request]:
    """Take the requests out of documents of ours: one each, or lists of them."""
    found: list[Request] = []
    for document in documents:
        for value in document.value if isinstance(document.value, list) else [document.value]:
            if not isinstance(value, dict):
                line = document.lines.get(())
                at = f"line {line}: " if line else ""
                raise NotUnderstoodError(f"{at}task {len(found) + 1}: wanted is a mapping, seen {_kind_of(value)}")
            found.append(value)
    if not found:
        raise NotUnderstoodError("the file holds no task")
    return found


def _kind_of(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
