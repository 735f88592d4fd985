"""What the documents claim of the product is what the product runs."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.jobs.runtime.flows import all_jobs, external_writer

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
NOT_CALLED = "No job calls `scheduling.solve.replan` yet"
REPLAN = "thalweg.scheduling.solve.replan"
PAGES = sorted([PROJECT_ROOT / "README.md", *(PROJECT_ROOT / "docs").rglob("*.md")])
PRODUCT = ("jobs", "streams", "sync", "scheduling", "learning", "thalweg")
FILES = [
    str(file.relative_to(PROJECT_ROOT))
    for folder in (*PRODUCT, "conf", "benchmarks", "tests")
    for file in (PROJECT_ROOT / folder).rglob("*.py")
]


def flow_lines() -> list[list[list[str]]]:
    """The README's first block: lines of stages, each a list of names."""
    block = README.split("```text\n")[1].split("```")[0]
    return [[stage.strip().split(", ") for stage in line.split("->")] for line in block.splitlines()]


def test_the_readmes_flow_names_each_job_once_and_says_what_the_graph_says() -> None:
    flows = {job.module: job.flow for job in all_jobs()}
    lines = flow_lines()
    named = [job for line in lines for stage in line[1::2] for job in stage]
    assert sorted(named) == sorted(flows), "each job once"
    for line in lines:
        for before, jobs, after in zip(line[0::2], line[1::2], line[2::2], strict=False):
            for job in jobs:
                flow = flows[job]
                assert {*flow.reads_topics, *flow.reads_tables} & {*before}, f"{job} reads none of {before}"
                assert {*flow.writes_topics, *flow.writes_tables} & {*after}, f"{job} writes none of {after}"
        for at in range(0, len(line), 2):
            writers = [flows[job] for job in (line[at - 1] if at else [])]
            readers = [flows[job] for job in (line[at + 1] if at + 1 < len(line) else [])]
            written = {name for flow in writers for name in (*flow.writes_topics, *flow.writes_tables)}
            read = {name for flow in readers for name in (*flow.reads_topics, *flow.reads_tables)}
            for name in line[at]:
                assert name in read or at + 1 == len(line), f"nobody on the line reads {name}"
                assert at == 0 or name in written or external_writer(name), f"nobody on the line writes {name}"


def callers(module: str) -> list[str]:
    """Files of the product that import a module."""
    found = []
    for room in PRODUCT:
        for path in (PROJECT_ROOT / room).rglob("*.py"):
            imports = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if names(node, module))
            if any(imports):
                found.append(str(path.relative_to(PROJECT_ROOT)))
    return found


def names(node: ast.AST, module: str) -> bool:
    package, _, last = module.rpartition(".")
    if isinstance(node, ast.ImportFrom):
        return node.module == module or (node.module == package and any(alias.name == last for alias in node.names))
    return isinstance(node, ast.Import) and any(alias.name == module for alias in node.names)


def test_figures_of_replan_say_whether_a_job_calls_it() -> None:
    pages = [PROJECT_ROOT / "README.md", *(PROJECT_ROOT / "docs" / "measurements").glob("*.md")]
    showing = [page for page in pages if re.search(r"bench (replan|scale)`", page.read_text(encoding="utf-8"))]
    assert len(showing) == 3
    calling = callers(REPLAN)
    for page in showing:
        said = NOT_CALLED in " ".join(page.read_text(encoding="utf-8").split())
        assert said is not bool(calling), (
            f"{page.name} says {'' if said else 'nothing of '}that no job calls replan; it is imported by {calling}: "
            "change README.md and `STANDING` in benchmarks/placement/replan.py"
        )


def test_a_reference_policy_is_called_one() -> None:
    assert "`gravity` is a reference policy" in " ".join(README.split())
    for name in ("how-to", "measurements"):
        text = (PROJECT_ROOT / "docs" / name / "replay.md").read_text(encoding="utf-8")
        assert "reference policies" in text, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT_ROOT)))
def test_files_and_imports_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:[\w-]+/)*[\w-]+\.py)`", text):
        assert any(f"/{file}".endswith(f"/{name}") for file in FILES), f"no such file: {name}"
    for name in re.findall(r"`(benchmarks/results/[\w-]+\.json)`", text):
        assert (PROJECT_ROOT / name).is_file(), f"no such result: {name}"
    for code in re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        for module, names in re.findall(r"^from (thalweg\S*) import (.+)$", code, flags=re.MULTILINE):
            for name in names.split(","):
                assert is_there(module, name.strip()), f"no {name} in {module}"


def is_there(module: str, name: str) -> bool:
    """Tell whether a module has a name; of one that needs Flower, which is not installed here, its text says it."""
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != "flwr":
            raise
        tree = ast.parse((PROJECT_ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        return any(isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name for node in tree.body)


def test_documents_lie_in_rooms() -> None:
    docs = PROJECT_ROOT / "docs"
    flat = sorted(path.name for path in docs.iterdir() if path.is_file())
    assert flat == ["index.md"], "docs/ has rooms: tutorial, how-to, explanation, reference, measurements, decisions"
    rooms = {path.name for path in docs.iterdir() if path.is_dir()}
    assert rooms == {"tutorial", "how-to", "explanation", "reference", "measurements", "decisions"}


def test_figures_of_record_stand_in_measurements() -> None:
    """A page that explains names results only where it says what was learnt from them."""
    for page in (PROJECT_ROOT / "docs").rglob("*.md"):
        room = page.relative_to(PROJECT_ROOT / "docs").parts[0]
        if room in ("tutorial", "how-to", "explanation", "reference"):
            results = re.findall(
                r"^\(`benchmarks/results/[^)]*\)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE
            )
            assert not results, f"{page.name}: {results}"
