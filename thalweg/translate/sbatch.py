"""An `sbatch` script as a request: its #SBATCH lines say what it needs, the whole script is the command.

Slurm runs a script once, on the first node, and `srun` in it starts the tasks; here the command is started in every
worker. A worker is one of Slurm's tasks. What a script asks of the shell (modules, SLURM_ variables) is said as well.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from thalweg.scheduling.counted import counted
from thalweg.translate.exported import exports
from thalweg.translate.sheet import UNKNOWN_HERE
from thalweg.translate.translation import Loss, NotUnderstoodError, Request
from thalweg.translate.units import gpu_model, slurm_memory_gb, slurm_seconds

Read = TypeVar("Read")

_DIRECTIVE: Final = re.compile(r"#SBATCH\s+(.*)")
_SHORT: Final = {
    "A": "account", "a": "array", "b": "begin", "c": "cpus-per-task", "C": "constraint", "d": "dependency",
    "D": "chdir", "e": "error", "G": "gpus", "H": "hold", "i": "input", "J": "job-name", "L": "licenses",
    "M": "clusters", "m": "distribution", "n": "ntasks", "N": "nodes", "o": "output", "p": "partition", "q": "qos",
    "s": "oversubscribe", "t": "time", "w": "nodelist", "x": "exclude",
}  # fmt: skip
_WITHOUT_VALUE: Final = frozenset({"hold", "requeue", "no-requeue", "oversubscribe", "exclusive", "parsable", "wait"})
"""Options that stand alone; some may take a value behind an equals sign."""
_HARMLESS: Final = frozenset({"parsable", "quiet", "verbose", "wait", "distribution", "hint", "no-kill"})
"""They change nothing of what runs, or where."""
_VARIABLE: Final = re.compile(r"\bSLURM_[A-Z_]+|\bCUDA_VISIBLE_DEVICES=")
_ARRAY: Final = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?(?::(\d{1,9}))?")
_DEPENDENCY: Final = re.compile(r"(afterok|afterany|afternotok|after|aftercorr|afterburstbuffer):(.+)")
_WHY: Final[Mapping[str, str]] = {
    "output": "not said: what it writes is kept by the agent (thalweg logs TASK)",
    "error": "not said: what it writes is kept by the agent (thalweg logs TASK)",
    "partition": "not said: where it runs is decided by cost; allowed_regions narrows it",
    "qos": "not said: priority is a number from 0 to 1000",
    "nice": "not said: priority is a number from 0 to 1000",
    "priority": "not said: Slurm's numbers are not ours (0 to 1000)",
    "mail-type": "not said: thalweg hooks tells of ends",
    "mail-user": "not said: thalweg hooks tells of ends",
    "chdir": "not said: a process starts in its own empty folder; write cd into the script",
    "nodelist": "not said: nodes are the region's to choose",
    "exclude": "not said: nodes are the region's to choose",
    "exclusive": "not said: ask for all GPUs and CPUs of a node",
    "export": "not said: nothing of your shell's environment is sent; env names variables",
    "hold": "not said: submit it, then thalweg hold",
    "licenses": "not said: nothing here counts licences",
    "requeue": "not said: a task that was lost is always placed anew",
    "no-requeue": "not said: a task that was lost is always placed anew; preemptible: false keeps it from giving way",
    "signal": "not said: a task that is stopped gets SIGTERM first",
    "reservation": "not said: nothing is set apart here",
    "tmp": "not said: a worker asks for GPUs, CPUs and memory",
    "comment": "not kept",
}


def is_sbatch(text: str) -> bool:
    """Tell whether a file is a script for Slurm: it has #SBATCH lines, or at least says with what it is run."""
    return text.startswith("#!") or re.search(r"^#SBATCH\s", text, re.MULTILINE) is not None


@dataclass(slots=True)
class _Options:
    """The script's options by their long names; what is taken is gone."""

    values: dict[str, tuple[str, int]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        found = self.values.pop(name, None)
        return None if found is None else found[0]

    def read(self, name: str, read: Callable[[str], Read]) -> Read | None:
        """Take an option and read it; what is wrong with it is said with its line."""
        if name not in self.values:
            return None
        text, line = self.values.pop(name)
        try:
            return read(text)
        except (NotUnderstoodError, ValueError, OverflowError) as error:
            raise NotUnderstoodError(f"line {line}: --{name} {text}: {error}") from error

    def lose(self, name: str, why: str) -> None:
        if name in self.values:
            text, line = self.values.pop(name)
            self.losses.append(Loss(line=line, what=_written(name, text), why=why))


def from_sbatch(text: str) -> tuple[Request, list[Loss]]:
    """Read a script.

    Raises:
        NotUnderstoodError: an option has a value that it cannot have, or is none of Slurm's form.
    """
    if "\x00" in text:
        raise NotUnderstoodError("a script is text; this holds a zero byte")
    dos_lines = text.count("\r\n")
    text = text.replace("\r\n", "\n")
    options = _options(text)
    if dos_lines:
        # Slurm refuses such a script, since its shell would look for programs whose names end in a carriage return.
        why = "not kept: a shell takes them for a part of the words before them"
        options.losses.append(Loss(line=None, what=f"line ends of DOS in {dos_lines} lines", why=why))
    workers, nodes, spread = _workers(options)
    request: Request = {
        "name": options.text("job-name"),
        "tenant": options.text("account"),
        "workers": workers if workers > 1 else None,
        "spread_workers": spread or None,
        "per_worker": _per_worker(options, workers, nodes),
        **_times(options),
        "after": _after(options),
    }
    numbers = _array(options)
    request["array"] = None if numbers is None else numbers.request()
    # The script finds its variables under the names that it knows, where ours tell the same.
    known = _told_by(request, nodes, numbers)
    request["command"] = _command(_interpreter(text), text, known)
    if request["time_limit_s"]:
        request["expected_s"] = request["time_limit_s"]  # the best that is known of it; Slurm plans by it, too
    for name in list(options.values):
        if name in _HARMLESS:
            options.text(name)
        else:
            options.lose(name, _WHY.get(name, UNKNOWN_HERE))
    losses = [*options.losses, *_asked_of_the_shell(text, known)]
    return (
        {name: value for name, value in request.items() if value not in (None, {}, [])},
        sorted(losses, key=lambda loss: loss.line or 0),
    )


def _options(text: str) -> _Options:
    """Read the #SBATCH lines before the first command; Slurm does not look at those behind it."""
    options, is_heading = _Options(), True
    for number, line in enumerate(text.splitlines(), start=1):
        directive = _DIRECTIVE.match(line)
        if directive is None:
            is_heading = is_heading and (not line.strip() or line.lstrip().startswith("#"))
            continue
        if not is_heading:
            why = "not read: it stands behind the first command, and Slurm does not read it there either"
            options.losses.append(Loss(line=number, what=line.strip(), why=why))
            continue
        for name, value in _read_line(directive.group(1), number):
            options.values[name] = (value, number)  # the last one counts
    return options


def _read_line(line: str, number: int) -> list[tuple[str, str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise NotUnderstoodError(f"line {number}: {line.strip()}: {error}") from error
    found: list[tuple[str, str]] = []
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, equals, value = _SHORT.get(word[1], word[1]), word[2:], word[2:]
            value = value.removeprefix("=")
        else:
            raise NotUnderstoodError(
                f"line {number}: {word!r} is no option; wanted is as in --time=2:00:00 or -t 2:00:00"
            )
        if not equals and name not in _WITHOUT_VALUE:
            if not words or (words[0].startswith("-") and len(words[0]) > 1):
                raise NotUnderstoodError(f"line {number}: --{name} has no value")
            value = words.pop(0)
        found.append((name, value))
    return found


def _workers(options: _Options) -> tuple[int, int, bool]:
    """Count Slurm's tasks and nodes, and tell whether each task has a node of its own."""
    nodes_asked = options.read("nodes", _most)
    tasks = options.read("ntasks", _count)
    each = options.read("ntasks-per-node", _count)
    nodes = nodes_asked or (-(-tasks // each) if tasks and each else 1)
    workers = tasks or nodes * (each or 1)
    if workers % nodes:
        line = "--ntasks"
        raise NotUnderstoodError(
            f"{line} {workers} on {counted(nodes, 'node')}: workers are alike, wanted is a multiple of the nodes"
        )
    if nodes > 1 and workers > nodes:
        go = counted(workers, "worker goes", "workers go")
        why = f"not said: {go} where they fit, not {workers // nodes} to a node"
        options.losses.append(Loss(line=None, what=f"--nodes={nodes}", why=why))
    return workers, nodes, nodes > 1 and workers == nodes


def _most(text: str) -> int:
    """Read 4 or 2-4, of which the most is wanted."""
    return _count(text.rpartition("-")[2])


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or int(text) < 1:
        raise NotUnderstoodError("wanted is a number from 1")
    return int(text)


def _per_worker(options: _Options, workers: int, nodes: int) -> dict[str, Any]:
    cpus = options.read("cpus-per-task", _count)
    gpus, models = _gpus(options, workers, nodes)
    need = {"gpus": gpus, "gpu_models": models, "cpus": cpus, "memory_gb": _memory(options, workers, nodes, cpus, gpus)}
    return {name: value for name, value in need.items() if value}


def _gpus(options: _Options, workers: int, nodes: int) -> tuple[int, list[str]]:
    """Share the GPUs, however they are asked for, among the workers; and name their models."""
    in_all, models = 0, []
    for name, times in (("gpus", 1), ("gpus-per-node", nodes), ("gres", nodes), ("gpus-per-task", workers)):
        line = options.values.get(name, ("", 0))[1]
        asked = options.read(name, _resources if name == "gres" else _typed)
        if asked is None:
            continue
        count, model, other = asked
        if other:
            options.losses.append(Loss(line=line, what=f"--{name}={other}", why=UNKNOWN_HERE))
        in_all = max(in_all, count * times)
        models += [model] if model else []
    if in_all % workers:
        raise NotUnderstoodError(
            f"{counted(in_all, 'GPU')} for {counted(workers, 'task')}: workers are alike, wanted is a multiple of the "
            "tasks"
        )
    wanted = options.read("constraint", gpu_model) if _names_model(options) else None
    return in_all // workers, sorted({gpu_model(name) or name for name in (*models, *([wanted] if wanted else []))})


def _names_model(options: _Options) -> bool:
    text = options.values.get("constraint", ("", 0))[0]
    return gpu_model(text) is not None and re.fullmatch(r"[\w.-]+", text) is not None


def _typed(text: str) -> tuple[int, str, str]:
    """Read 4 or a100:4."""
    model, _, count = text.rpartition(":")
    return _count(count), model, ""


def _resources(text: str) -> tuple[int, str, str]:
    """Read gpu, gpu:4, gpu:a100:4, several behind commas; what is no GPU is given back."""
    count, model, others = 0, "", []
    for one in text.split(","):
        kind, _, rest = one.partition(":")
        if kind.removeprefix("gres/") != "gpu":
            others.append(one)
            continue
        *names, last = rest.partition("(")[0].split(":") if rest else ["1"]
        if not last.isdigit():
            names, last = [*names, last], "1"
        if len(names) > 1:
            raise NotUnderstoodError(f"{one!r}: wanted is as in gpu:a100:4")
        count += _count(last)
        model = names[0] if names else model
    return count, model, ",".join(others)


def _memory(options: _Options, workers: int, nodes: int, cpus: int | None, gpus: int) -> float | None:
    """Share the memory, however it is asked for: by node, by CPU or by GPU."""
    written = options.values.get("mem")
    node: float | None = options.read("mem", slurm_memory_gb)
    cpu: float | None = options.read("mem-per-cpu", slurm_memory_gb)
    gpu: float | None = options.read("mem-per-gpu", slurm_memory_gb)
    if node == 0 and written is not None:
        text, line = written
        why = "not said: there it is all the memory of a node; here a task says how much it needs"
        options.losses.append(Loss(line=line, what=_written("mem", text), why=why))
        return None
    if node is not None:
        return round(node * nodes / workers, 3)
    if cpu is not None:
        return round(cpu * (cpus or 1), 3)
    return None if gpu is None else round(gpu * max(gpus, 1), 3)


def _times(options: _Options) -> Request:
    limit = options.read("time", slurm_seconds)
    begin = options.values.get("begin")
    moment = None
    if begin is not None and (moment := _moment(begin[0])) is None:
        options.lose("begin", "not said: wanted is a moment such as 2026-11-21T12:00:00; not_before takes it")
    elif begin is not None:
        options.text("begin")
    return {"time_limit_s": limit or None, "not_before": moment}  # for Slurm, too, a limit of 0 is none


def _moment(text: str) -> int | None:
    """Read a moment as milliseconds since 1970; only one with its zone means the same everywhere."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(moment.timestamp() * 1_000) if moment.tzinfo else None


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The elements of an array: by which numbers Slurm knows them, and how many run at once."""

    ordered: tuple[int, ...]
    at_most: int | None

    def request(self) -> dict[str, int]:
        return {"count": len(self.ordered)} | ({} if self.at_most is None else {"at_most": self.at_most})

    def of_index(self) -> str:
        """Write the number of an element in a shell's arithmetic: a sum of which one run of numbers is not 0."""
        runs = _runs(self.ordered)
        if len(runs) == 1:
            return f"$((THALWEG_ARRAY_INDEX * {runs[0].step} + {runs[0].number}))"
        shares = (
            f"(i>={run.index})*(i<{run.index + run.count})*((i-{run.index})*{run.step}+{run.number})" for run in runs
        )
        return f"$(({'+'.join(shares).replace('i', 'THALWEG_ARRAY_INDEX')}))"


@dataclass(frozen=True, slots=True)
class _Run:
    """Numbers evenly apart."""

    index: int
    """Of the first of them, in the array."""
    number: int
    step: int
    count: int


def _runs(numbers: Sequence[int]) -> list[_Run]:
    """Cut rising numbers into runs that are evenly apart, each as long as it can be."""
    runs: list[_Run] = []
    for index, number in enumerate(numbers):
        last = runs[-1] if runs else None
        if last is not None and last.count == 1:
            runs[-1] = replace(last, step=number - last.number, count=2)
        elif last is not None and number == last.number + last.step * last.count:
            runs[-1] = replace(last, count=last.count + 1)
        else:
            runs.append(_Run(index, number, 1, 1))
    return runs


def _array(options: _Options) -> _Numbers | None:
    written = options.values.get("array")
    if written is None:
        return None
    text, line = written
    options.text("array")
    indices, _, most = text.partition("%")
    numbers: set[int] = set()
    for part in indices.split(","):
        match = _ARRAY.fullmatch(part.strip())
        first, last, step = (int(group or 0) for group in match.groups()) if match else (0, 0, 0)
        if match is None or (match.group(2) and last < first) or (most and not most.isdigit()):
            raise NotUnderstoodError(f"line {line}: --array {text}: wanted is as in 0-15, 1,3,5 or 0-15%4")
        stop = last if match.group(2) else first
        if (stop - first) // (step or 1) >= _MOST_ELEMENTS or len(numbers) >= _MOST_ELEMENTS:
            raise NotUnderstoodError(f"line {line}: --array {text}: an array has at most {_MOST_ELEMENTS:,} elements")
        numbers.update(range(first, stop + 1, step or 1))
    return _Numbers(tuple(sorted(numbers)), int(most) if most else None)


def _told_by(request: Request, nodes: int, numbers: _Numbers | None) -> dict[str, str]:
    """Say in the shell's words what stands in for Slurm's variables."""
    told = {
        "SLURM_JOB_ID": "$THALWEG_TASK_ID",
        "SLURM_JOBID": "$THALWEG_TASK_ID",
        "SLURM_PROCID": "$THALWEG_RANK",
        "SLURM_NTASKS": "$THALWEG_WORLD_SIZE",
        "SLURM_NPROCS": "$THALWEG_WORLD_SIZE",
        "SLURM_LOCALID": "${LOCAL_RANK:-0}",
        "SLURM_NODEID": "${NODE_RANK:-0}",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_NNODES": str(nodes),
        "SLURM_CPUS_PER_TASK": str(request["per_worker"].get("cpus", 1)),
    }
    if numbers is not None:
        told["SLURM_ARRAY_JOB_ID"] = r"${THALWEG_TASK_ID%\[*}"
        told[_ARRAY_NUMBER] = numbers.of_index()
        told["SLURM_ARRAY_TASK_COUNT"] = str(len(numbers.ordered))
        told["SLURM_ARRAY_TASK_MIN"] = str(numbers.ordered[0])
        told["SLURM_ARRAY_TASK_MAX"] = str(numbers.ordered[-1])
    return told


def _command(interpreter: list[str], script: str, known: Mapping[str, str]) -> list[str]:
    """Run a script with its variables; where it is not a shell's, a shell sets them and becomes what runs it."""
    # What the script starts may read its number without its being named here.
    lines = exports(script, known, always=(_ARRAY_NUMBER,))
    if interpreter[0] not in _OF_NO_SHELL or not lines:
        return [*interpreter, "-c", lines + script]
    return ["sh", "-c", f'{lines}exec {shlex.join(interpreter)} -c "$0"\n', script]


_ARRAY_NUMBER: Final = "SLURM_ARRAY_TASK_ID"


_MOST_ELEMENTS: Final = 10_000


def _after(options: _Options) -> list[dict[str, str]]:
    written = options.values.get("dependency")
    if written is None:
        return []
    text, line = written
    options.text("dependency")
    found = []
    parts = [text] if "?" in text else text.split(",")
    for part in parts:
        match = _DEPENDENCY.fullmatch(part.strip())
        kind = match.group(1) if match and "?" not in part else ""
        if match is None or kind not in ("afterok", "afterany"):
            why = "not said: a task begins after the success (afterok) or the end (afterany) of all of some others"
            options.losses.append(Loss(line=line, what=_written("dependency", part), why=why))
            continue
        if any(one.isdecimal() for one in match.group(2).split(":")):
            why = "taken as it is; a job's number is Slurm's own, here a parent is named by its task_id"
            options.losses.append(Loss(line=line, what=_written("dependency", part), why=why))
        on = "success" if kind == "afterok" else "end"
        found += [{"task_id": task_id, "on": on} for task_id in match.group(2).split(":") if task_id]
    return found


def _interpreter(text: str) -> list[str]:
    """Name what runs the script: its first line, else sh."""
    first = text.splitlines()[0] if text.startswith("#!") else ""
    words = first.removeprefix("#!").split()
    if words and words[0].endswith("/env") and len(words) > 1:
        words = words[1:]
    program = words[0].rpartition("/")[2] if words else "sh"
    if program not in _SHELLS:
        raise NotUnderstoodError(f"line 1: {first}: wanted is a script for one of {', '.join(_SHELLS)}")
    return [program, *(word for word in words[1:] if word.startswith("-"))]


_OF_NO_SHELL: Final = frozenset({"python", "python3"})
_SHELLS: Final = ("bash", "sh", "zsh", "dash", "ksh", "python", "python3")


def _asked_of_the_shell(text: str, known: Mapping[str, str]) -> list[Loss]:
    """Find what a script takes for given that only Slurm gives."""
    losses = []
    said: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if bare.startswith("#") or not bare:
            continue
        for variable in _VARIABLE.findall(bare):
            if variable not in said and variable not in known:
                losses.append(Loss(line=number, what=variable.rstrip("="), why="it is not set by an agent of ours"))
                said.add(variable)
        first = bare.split()[0]
        if first in _COMMANDS and first not in said:
            losses.append(Loss(line=number, what=first, why=_COMMANDS[first]))
            said.add(first)
    return losses


_COMMANDS: Final = {
    "srun": "it is not there: the command is started in each worker by itself",
    "module": "it is not there, unless the region's machines have it",
    "sbatch": "it is not there: what a task submits goes through the client",
    "scontrol": "it is not there",
}


def _written(name: str, text: str) -> str:
    return f"--{name}={text}" if text else f"--{name}"
