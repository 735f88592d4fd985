"""The jobs' declared flows, and the graph that they make together with the topics, the tables and the world outside."""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg import jobs
from thalweg.jobs.runtime.job import Flow
from thalweg.streams.contract.topics import CONTRACTS as TOPICS

_DECLARES_FLOW: Final = re.compile(r"^FLOW\b", re.MULTILINE)
_OUTSIDE: Final = {contract.topic: contract.writer for contract in TOPICS if not contract.writer.startswith("jobs/")}
"""Topics that others write, and who; "every job" writes the dead-letter topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job and its flow."""

    module: str
    """Name of the file in jobs/, without its ending: the writer named in contracts is `jobs/<module>`."""
    flow: Flow


def all_jobs() -> tuple[Job, ...]:
    """Load the flow of every job that declares one, by module."""
    found = []
    for folder in jobs.__path__:
        for module in sorted(entry.name for entry in pkgutil.iter_modules([folder]) if not entry.ispkg):
            # Reading first spares importing what is no job.
            if _DECLARES_FLOW.search((Path(folder) / f"{module}.py").read_text(encoding="utf-8")):
                found.append(Job(module=module, flow=importlib.import_module(f"thalweg.jobs.{module}").FLOW))
    return tuple(found)


def external_writer(topic: str) -> str | None:
    """Who writes a topic from outside the jobs; None where a job does."""
    return _OUTSIDE.get(topic)


def unfed_reads(jobs_declared: Iterable[Job]) -> tuple[str, ...]:
    """Reads that no job feeds and nobody outside: `job reads topic x` or `job reads table x`."""
    everything = tuple(jobs_declared)
    topics = {topic for job in everything for topic in job.flow.writes_topics}
    tables = {table for job in everything for table in job.flow.writes_tables}
    return tuple(
        f"{job.module} reads {kind} {name}"
        for job in everything
        for kind, names, fed in (
            ("topic", job.flow.reads_topics, topics | _OUTSIDE.keys()),
            ("table", job.flow.reads_tables, tables),
        )
        for name in names
        if name not in fed
    )


def as_text(jobs_declared: Sequence[Job]) -> str:
    """One line per job: what it reads -> the job -> what it writes. Topics end in their region's place."""
    lines = []
    for job in jobs_declared:
        reads = [*map(_topic, job.flow.reads_topics), *job.flow.reads_tables]
        writes = [*job.flow.writes_tables, *map(_topic, job.flow.writes_topics)]
        lines.append(f"{', '.join(reads)} -> {job.module} -> {', '.join(writes)}")
    return "\n".join(lines)


def as_mermaid(jobs_declared: Sequence[Job]) -> str:
    """Draw the graph: topics as pills, tables as drums, jobs as boxes, others as hexagons."""
    nodes: dict[str, None] = {}
    edges: dict[str, None] = {}

    def topic(name: str) -> str:
        # Mermaid would take <region> for a tag.
        nodes[f'  topic_{name}(["{_topic(name, place=".*")}"])'] = None
        if (writer := _OUTSIDE.get(name)) and writer != "every job":
            outsider = re.sub(r"\W+", "_", writer)
            nodes[f'  {outsider}{{{{"{writer}"}}}}'] = None
            edges[f"  {outsider} --> topic_{name}"] = None
        return f"topic_{name}"

    def table(name: str) -> str:
        nodes[f'  table_{name}[("{name}")]'] = None
        return f"table_{name}"

    for job in jobs_declared:
        nodes[f'  job_{job.module}["{job.module}"]'] = None
        flow = job.flow
        for source in (*map(topic, flow.reads_topics), *map(table, flow.reads_tables)):
            edges[f"  {source} --> job_{job.module}"] = None
        for target in (*map(table, flow.writes_tables), *map(topic, flow.writes_topics)):
            edges[f"  job_{job.module} --> {target}"] = None
    return "\n".join(["flowchart LR", *nodes, *edges])


def _topic(name: str, place: str = ".<region>") -> str:
    per_region = any(contract.per_region for contract in TOPICS if contract.topic == name)
    return f"{name}{place}" if per_region else name
