"""What the documents show is run: snippets, commands, links."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import click
import pytest
from click.testing import CliRunner
from kafka import KafkaConsumer

from tests.acceptance.terminal import Terminal
from tests.ledger_rows import ledger, submitted
from tests.patience import PATIENCE_S
from thalweg.bootstrap.verbs import VERBS
from thalweg.cli.main import COMMANDS, cli
from thalweg.conf.environment import PROJECT_ROOT, find_java
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.placement.requests import read_request
from thalweg.sync.delta.contracts import DECISIONS, TASKS
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.ledger.folds import fold_ledger

README: Final = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
PAGES: Final = sorted([PROJECT_ROOT / "README.md", *(PROJECT_ROOT / "docs").rglob("*.md")], key=str)
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def producer() -> str:
    (code,) = re.findall(r"<!-- example: producer -->\n```python\n(.*?)```", README, flags=re.DOTALL)
    return str(code)


def relative(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT))


def test_the_quick_start_is_two_commands_each_alone() -> None:
    section = README.split("## Quick start")[1].split("\n## ")[0]
    assert [code.strip() for _, code in _FENCE.findall(section)] == ["./run demo", "./run test"]


def test_ci_calls_the_test_command() -> None:
    assert "./run test" in (PROJECT_ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_producer_is_short_and_needs_nothing_of_ours() -> None:
    code = producer()
    assert len(code.strip().splitlines()) < 15
    assert set(re.findall(r"^(?:import|from) (\w+)", code, flags=re.MULTILINE)) == {"json", "sys", "kafka"}


@pytest.mark.acceptance
def test_the_producers_task_arrives_and_is_a_good_request(broker: str) -> None:
    settings = KafkaSettings(bootstrap_servers=broker)
    ensure_topics(settings, [])
    subprocess.run([sys.executable, "-c", producer(), broker], check=True, timeout=PATIENCE_S)
    consumer = KafkaConsumer(
        "thalweg.requests", bootstrap_servers=broker, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    )
    try:
        record = next(record for record in consumer if record.key == b"hello-1")
    finally:
        consumer.close()
    request = read_request(record.value)
    assert (request.task_id, request.op, request.per_worker.gpus) == ("hello-1", "submit", 1)


@pytest.mark.spark
def test_spark_reads_the_tables_as_the_quick_start_shows(tmp_path: Path) -> None:
    page = (PROJECT_ROOT / "docs" / "tutorial" / "quickstart.md").read_text(encoding="utf-8")
    snippets = [code for _, code in _FENCE.findall(page)]
    shell = next(index for index, code in enumerate(snippets) if "bin/pyspark" in code)
    append(open_or_create(DECISIONS, str(tmp_path)), ledger(submitted("t1"), submitted("t2")))
    tasks, _ = fold_ledger(ledger(submitted("t1"), submitted("t2")))
    append(open_or_create(TASKS, str(tmp_path)), tasks)
    query = snippets[shell + 1].replace(".thalweg/warehouse", str(tmp_path))
    assert str(tmp_path) in query
    environ = os.environ | {"JAVA_HOME": str(find_java().home), "SPARK_LOCAL_IP": "127.0.0.1"}
    with Terminal(["bash", "-euc", snippets[shell]], environ) as terminal:  # without one, Python reads no startup file
        terminal.enter(query)
        terminal.wait(lambda: re.search(r"\|\s*waiting\|\s*2\|", terminal.out()) is not None)
        terminal.enter("\x04")
        assert terminal.ended() == 0


def shown_commands() -> list[tuple[str, str]]:
    """Every thalweg command in a shell snippet of the documents: (page, line)."""
    found = []
    for page in PAGES:
        if page.name == "cli.md":  # generated from the commands themselves
            continue
        for language, code in _FENCE.findall(page.read_text(encoding="utf-8")):
            if language not in ("sh", "shell", "bash", "console"):
                continue
            for line in code.replace("\\\n", " ").splitlines():
                if match := re.match(r"(?:\$ )?(?:\./run|thalweg|\.venv/bin/thalweg) (.*)", line.strip()):
                    found.append((relative(page), match.group(1)))
    return found


@pytest.mark.parametrize(("page", "line"), shown_commands())
def test_every_command_shown_exists_with_its_options(page: str, line: str) -> None:
    # What a shell would do with the rest (pipes, redirections, background) is not the command's.
    words = shlex.split(re.split(r"\s(?:[|>&]|2>)", f" {line}")[0], comments=True)
    name, *arguments = words
    if name in VERBS:
        return
    assert name in COMMANDS, f"{page}: no such command: {line}"
    options = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    path = [name, *arguments[: isinstance(cli.get_command(click.Context(cli), name), click.Group)]]
    told = CliRunner().invoke(cli, [*path, "--help"])
    assert told.exit_code == 0, told.output
    for option in options:
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", told.stdout), f"{page}: {name} has no {option}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Usage: ")


def test_the_readmes_table_of_commands_names_real_ones() -> None:
    table = README.split("## Commands")[1].split("\n## ")[0]
    named = [
        name for cell in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE) for name in re.findall(r"`(\w+)", cell)
    ]
    assert len(named) > 15
    assert set(named) <= COMMANDS.keys()


def test_the_index_leads_to_every_page() -> None:
    index = (PROJECT_ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (PROJECT_ROOT / "docs").rglob("*.md"):
        name = str(page.relative_to(PROJECT_ROOT / "docs"))
        if name != "index.md" and not re.match(r"decisions/\d", name):
            assert f"]({name})" in index, f"docs/{name} is not in docs/index.md"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        address, _, anchor = target.partition("#")
        linked = (page.parent / address).resolve() if address else page
        assert linked.exists(), f"{relative(page)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{relative(page)}: {target}"
