"""A Kubernetes `Job` (batch/v1) as a request.

Its one container is the task's worker; resources are what is requested, or else the limits; the namespace is the
tenant; completions are an array with as many at a time as may run in parallel.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from thalweg.translate.documents import SourceDocument
from thalweg.translate.sheet import Sheet
from thalweg.translate.translation import Loss, NotUnderstoodError, Path, Request
from thalweg.translate.units import gpu_model, quantity

API: Final = "batch/v1"
_POD: Final[Path] = ("spec", "template", "spec")
_CONTAINER: Final[Path] = (*_POD, "containers", 0)
_GPUS: Final = ("nvidia.com/gpu", "amd.com/gpu")
_MODEL_LABELS: Final = (
    *("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "k8s.amazonaws.com/accelerator", "accelerator"),
    "gpu.nvidia.com/model",
)
_SPOT_LABELS: Final = {
    "cloud.google.com/gke-spot": "true",
    "cloud.google.com/gke-preemptible": "true",
    "eks.amazonaws.com/capacityType": "spot",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
_REGION_LABELS: Final = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")


def is_kubernetes(value: Any) -> bool:
    """Tell whether a document is some object of Kubernetes."""
    return isinstance(value, dict) and "apiVersion" in value and "kind" in value


def from_job(document: SourceDocument) -> tuple[Request, list[Loss]]:
    """Read a Job.

    Raises:
        NotUnderstoodError: it is none, or something in it is not what a Job has there.
    """
    sheet = Sheet(document)
    if (sheet.take("apiVersion"), sheet.take("kind")) != (API, "Job"):
        seen = f"{sheet.look('apiVersion')} {sheet.look('kind')}"
        raise NotUnderstoodError(f"{sheet.where(('kind',))}: allowed of Kubernetes is Job ({API}), seen {seen}")
    if not isinstance(sheet.look((*_CONTAINER,)), dict):
        raise NotUnderstoodError(f"{sheet.where(_POD)}: a Job has a container there, with an image")
    environment = _environment(sheet)
    request: Request = {
        **_named(sheet),
        **_needs(sheet),
        **_pinned(sheet),
        "image": sheet.take((*_CONTAINER, "image"), str),
        "command": _command(sheet, environment["env"], environment["secrets"]),
        **environment,
        **_repeated(sheet),
        "time_limit_s": _limit(sheet),
    }
    _say_why(sheet)
    return {name: value for name, value in request.items() if value not in (None, {}, [])}, sheet.losses()


def _named(sheet: Sheet) -> Request:
    name, generated = sheet.take("metadata.name", str), sheet.take("metadata.generateName", str)
    namespace = sheet.take("metadata.namespace", str)
    return {"task_id": name, "name": name or (generated or "job").rstrip("-"), "tenant": namespace}


def _needs(sheet: Sheet) -> Request:
    asked: dict[str, Any] = {}
    for kind in ("limits", "requests"):  # what is requested counts before what it is limited to
        at = (*_CONTAINER, "resources", kind)
        for name in sheet.mapping(at):
            if name in (*_GPUS, "cpu", "memory"):
                asked[name] = sheet.read((*at, name), quantity)
            elif "mig-" in name:
                sheet.lose((*at, name), "not said: a share of a GPU is per_worker.gpu_milli, in thousandths")
    gpus = next((asked[name] for name in _GPUS if name in asked), 0)
    if gpus != int(gpus):
        raise sheet.refuse((*_CONTAINER, "resources"), f"GPUs are whole, seen {gpus}")
    per_worker = {"gpus": int(gpus) or None, "cpus": asked.get("cpu"), "memory_gb": _gb(asked.get("memory"))}
    models = [_model(sheet, label) for label in _MODEL_LABELS]
    per_worker["gpu_models"] = [model for model in models if model] or None
    return {"per_worker": {name: value for name, value in per_worker.items() if value is not None}}


def _gb(memory_bytes: float | None) -> float | None:
    return None if memory_bytes is None else round(memory_bytes / 1e9, 3)


def _model(sheet: Sheet, label: str) -> str | None:
    at = (*_POD, "nodeSelector", label)
    wanted = sheet.look(at)
    found = gpu_model(str(wanted)) if wanted is not None else None
    if found is not None:
        sheet.ignore(at)
    return found


def _pinned(sheet: Sheet) -> Request:
    at = (*_POD, "nodeSelector")
    spot = False
    for label, value in _SPOT_LABELS.items():
        if str(sheet.look((*at, label))).lower() == value:
            sheet.ignore((*at, label))
            spot = True
    regions = [region for label in _REGION_LABELS if (region := sheet.take((*at, label), str)) is not None]
    for label in _REGION_LABELS:
        if ":" not in str(sheet.look((*at, label)) or ":"):
            sheet.lose((*at, label), "taken as it is; regions here are mostly named provider:region (thalweg regions)")
    return {"spot_ok": spot or None, "allowed_regions": regions}


def _command(sheet: Sheet, env: Mapping[str, str], secrets: Collection[str]) -> list[str] | None:
    command = sheet.take((*_CONTAINER, "command"), list, default=[])
    arguments = sheet.take((*_CONTAINER, "args"), list, default=[])
    if arguments and not command:
        raise sheet.refuse(
            (*_CONTAINER, "args"), "arguments without a command: the image's own entry point is not known here; name it"
        )
    for part in ("command", "args"):
        for index, word in enumerate(sheet.items((*_CONTAINER, part))):
            if named := sorted({name for name in _referred(str(word)) if name in secrets}):
                why = f"$({named[0]}) is put in by Kubernetes; here a secret is in the environment alone"
                sheet.lose((*_CONTAINER, part, index), why)
    return [expanded(str(word), env) for word in (*command, *arguments)] or None


_REFERENCE: Final = re.compile(r"\$(\$)?(?:\(([-._A-Za-z][-._A-Za-z0-9]*)\))?")


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Put the values of variables for `$(NAME)` as Kubernetes does: `$$(NAME)` is itself, unknown names stay."""

    def value(found: re.Match[str]) -> str:
        doubled, name = found.groups()
        if doubled:
            return found.group()[1:]
        return found.group() if name is None else env.get(name, found.group())

    return _REFERENCE.sub(value, text)


def _referred(text: str) -> list[str]:
    return [name for doubled, name in _REFERENCE.findall(text) if name and not doubled]


def _environment(sheet: Sheet) -> Request:
    env: dict[str, str] = {}
    secrets: list[str] = []
    at = (*_CONTAINER, "env")
    for index, _ in enumerate(sheet.items(at)):
        one = (*at, index)
        name = sheet.take((*one, "name"), str, default="")
        if sheet.look((*one, "valueFrom", "secretKeyRef")) is not None:
            secrets.append(name)
            sheet.lose((*one, "valueFrom"), f"said as the secret {name} of the region's own store")
        elif sheet.look((*one, "valueFrom")) is not None:
            sheet.lose((*one, "valueFrom"), "not said: a variable has a value or is a secret")
        else:
            env[name] = expanded(sheet.take((*one, "value"), str, default=""), env)
    return {"env": env, "secrets": secrets}


def _repeated(sheet: Sheet) -> Request:
    completions = sheet.take("spec.completions", int)
    parallel = sheet.take("spec.parallelism", int, default=1)
    if parallel < 1:
        raise sheet.refuse(
            "spec.parallelism",
            f"seen {parallel}, by which a Job is suspended; allowed is 1 and more: leave it out, submit it, hold it "
            "with thalweg hold (as for suspend: true)",
        )
    tries = sheet.take("spec.backoffLimit", int)
    sheet.ignore("spec.completionMode")
    if completions is None and parallel > 1:
        sheet.lose("spec.parallelism", "not said: a queue of work that its workers share; use completions, or workers")
    if sheet.look("spec.completionMode") == "Indexed":
        sheet.lose(
            "spec.completionMode", "an element finds its number in THALWEG_ARRAY_INDEX, not in JOB_COMPLETION_INDEX"
        )
    array = {"count": completions, "at_most": parallel} if (completions or 1) > 1 else None
    return {"array": array, "retries": None if tries is None else {"at_most": tries}}


def _limit(sheet: Sheet) -> float | None:
    limits = [
        sheet.take(path, float)
        for path in ("spec.activeDeadlineSeconds", "spec.template.spec.activeDeadlineSeconds")
        if sheet.look(path) is not None
    ]
    return float(min(limits)) if limits else None


def _say_why(sheet: Sheet) -> None:
    """Say of what is often written why it is not said; what is left over says itself."""
    # Where a run failed it is tried again, in place or not, as these two would have it.
    sheet.ignore((*_POD, "restartPolicy"), (*_CONTAINER, "name"), (*_CONTAINER, "imagePullPolicy"))
    limits, requests = (sheet.mapping((*_CONTAINER, "resources", kind)) for kind in ("limits", "requests"))
    for name in limits.keys() & requests.keys():
        if str(limits[name]) != str(requests[name]):
            sheet.lose((*_CONTAINER, "resources", "limits", name), "not said: what is requested is also the limit")
    for path, why in (
        ("metadata.labels", "not kept; name and tenant are what tasks are looked for by"),
        ("metadata.annotations", "not kept"),
        ("spec.template.metadata", "not kept"),
        ("spec.ttlSecondsAfterFinished", "not said: ended tasks are kept as place.archive_after_s says"),
        ("spec.suspend", "not said: submit it, then thalweg hold"),
        ("spec.template.spec.volumes", "not said: inputs are named in data, results go to an object store"),
        ("spec.template.spec.initContainers", "not said: let the command do it first"),
        ("spec.template.spec.priorityClassName", "not said: a request's priority is a number from 0 to 1000"),
        ("spec.template.spec.nodeSelector", "not said: regions and GPU models are what can be chosen"),
        ("spec.template.spec.affinity", "not said: allowed_regions, gpu_models and spread_workers are what there is"),
        ("spec.template.spec.tolerations", "not said: nodes of a region are its agent's to offer"),
    ):
        if not _partly_taken(sheet, path):
            sheet.lose(path, why)
    sheet.lose((*_CONTAINER, "volumeMounts"), "not said: see volumes")
    sheet.lose((*_CONTAINER, "envFrom"), "not said: each variable by its name")
    for index in range(1, len(sheet.items((*_POD, "containers")))):
        sheet.lose((*_POD, "containers", index), "not said: a task has one container, the first")


def _partly_taken(sheet: Sheet, path: str) -> bool:
    """Tell whether some of the labels there were understood: then the others are said one by one."""
    return path.endswith("nodeSelector") and any(
        sheet.has_crossed(("spec", "template", "spec", "nodeSelector", label)) for label in sheet.mapping(path)
    )
