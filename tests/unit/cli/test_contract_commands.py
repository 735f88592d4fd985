import json
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from thalweg.cli.main import cli
from thalweg.jobs.runtime.flows import (
    Job,
    all_jobs,
    as_mermaid,
    as_text,
    external_writer,
    unfed_reads,
)
from thalweg.jobs.runtime.job import Flow
from thalweg.streams.contract.topics import CONTRACTS as TOPICS
from thalweg.sync.delta.contracts import CONTRACTS as TABLES


def document(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_topics_are_printed_with_their_prefix_and_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_KAFKA__TOPIC_PREFIX", "acme")
    listed = {topic["topic"]: topic for topic in document("topics")["topics"]}
    assert listed.keys() == {f"acme.{t.topic}" + (".<region>" if t.per_region else "") for t in TOPICS}
    assert listed["acme.requests"]["message"]["title"] == "TaskRequest"
    assert listed["acme.models"]["kept"] == "latest per key"
    told = CliRunner().invoke(cli, ["topics"]).stdout
    assert all(name in told for name in listed)
    published = yaml.safe_load(CliRunner().invoke(cli, ["topics", "--asyncapi"]).stdout)
    assert published["channels"]["requests"]["address"] == "acme.requests"


def test_tables_are_printed_with_key_writer_and_columns() -> None:
    listed = {table["table"]: table for table in document("tables")["tables"]}
    assert listed.keys() == {contract.name for contract in TABLES}
    assert listed["decisions"]["writer"] == "jobs/place"
    assert {"name": "task_id", "type": "string", "nullable": False, "key": True} in listed["tasks"]["columns"]
    assert [table["table"] for table in document("tables", "plans")["tables"]] == ["plans"]
    assert "objective_usd" in CliRunner().invoke(cli, ["tables", "plans"]).stdout


def test_an_unknown_table_is_answered_with_those_there_are() -> None:
    result = CliRunner().invoke(cli, ["tables", "task"])
    assert result.exit_code == 2
    assert "no table 'task'; there are: account, audit, conflicts" in result.stderr


def test_a_wrong_setting_ends_topics_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_KAFKA__TOPIC_PREFIX", "no spaces")
    result = CliRunner().invoke(cli, ["topics"])
    assert (result.exit_code, "kafka.topic_prefix" in result.stderr) == (2, True)


FED = Job(module="place", flow=Flow(name="place", reads_topics=("requests",), writes_tables=("tasks",)))
UNFED = Job(module="b", flow=Flow(name="b", reads_tables=("tasks", "plans", "nodes"), reads_topics=("models",)))


def test_a_read_that_nobody_feeds_is_found() -> None:
    assert unfed_reads([FED]) == ()
    assert unfed_reads([FED, UNFED]) == ("b reads topic models", "b reads table plans", "b reads table nodes")
    assert external_writer("requests") == "applications"
    assert external_writer("assignments") is None


def test_the_graph_is_drawn_as_text_and_as_mermaid() -> None:
    assert as_text([FED, UNFED]) == "requests -> place -> tasks\nmodels, tasks, plans, nodes -> b -> "
    drawn = as_mermaid([FED]).splitlines()
    assert drawn[0] == "flowchart LR"
    assert drawn[1:] == [
        '  job_place["place"]',
        '  topic_requests(["requests"])',
        '  applications{{"applications"}}',
        '  table_tasks[("tasks")]',
        "  applications --> topic_requests",
        "  topic_requests --> job_place",
        "  job_place --> table_tasks",
    ]


def test_every_read_of_the_jobs_has_a_writer_or_comes_from_outside() -> None:
    declared = all_jobs()
    assert {"place", "observe"} <= {job.module for job in declared}
    assert unfed_reads(declared) == ()


def test_every_table_is_written_by_the_job_that_its_contract_names_and_by_no_other() -> None:
    writers: dict[str, list[str]] = {}
    for job in all_jobs():
        for table in job.flow.writes_tables:
            writers.setdefault(table, []).append(f"jobs/{job.module}")
    assert {contract.name: [contract.writer] for contract in TABLES} == writers


def test_flows_name_only_topics_and_tables_that_exist_and_write_only_their_own_topics() -> None:
    writer = {contract.topic: contract.writer for contract in TOPICS}
    tables = {contract.name for contract in TABLES}
    for job in all_jobs():
        assert {*job.flow.reads_topics, *job.flow.writes_topics} <= writer.keys()
        assert {*job.flow.reads_tables, *job.flow.writes_tables} <= tables
        for topic in job.flow.writes_topics:
            assert not writer[topic].startswith("jobs/") or writer[topic] == f"jobs/{job.module}"


def test_graph_prints_the_declared_jobs() -> None:
    listed = {job["job"]: job for job in document("graph")["jobs"]}
    assert listed["place"]["writes_tables"][0] == "decisions"
    assert "-> place -> decisions" in CliRunner().invoke(cli, ["graph"]).stdout
    assert CliRunner().invoke(cli, ["graph", "--mermaid"]).stdout.startswith("flowchart LR\n")


@pytest.mark.parametrize("name", ["../../x", "a b", "", "-x", "a\n", "x/y"])
def test_topics_are_made_only_for_what_is_named_as_a_region(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr("thalweg.cli.contract_commands.ensure_topics", lambda *asked: made.append(asked) or [])
    named = ["topics", "--bootstrap", "127.0.0.1:9", "--make"]
    refused = CliRunner().invoke(cli, [*named, "lab", "--make", name])
    assert (refused.exit_code, made) == (2, [])
    assert "is no region's name" in refused.stderr
    for region in ("aws:us-east-1", "lab72", "büro"):
        assert CliRunner().invoke(cli, [*named, region]).exit_code == 0
    assert len(made) == 3
