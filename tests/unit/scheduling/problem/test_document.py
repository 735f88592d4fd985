import json

import pytest
from click.testing import CliRunner

from thalweg.cli.plan_command import plan
from thalweg.scheduling.problem.document import ProblemFormatError, read_problem

DOCUMENT = {
    "regions": [
        {
            "region": "aws:us-east-1",
            "pools": [
                {"pool": "aws/A100", "gpu_model": "A100", "gpus": 16, "usd_per_gpu_hour": 3.0, "spot": False},
                {"pool": "aws/A100/spot", "gpu_model": "A100", "gpus": 4, "usd_per_gpu_hour": 1.0, "spot": True},
            ],
        },
        {
            "region": "gcp:us-west1-a",
            "pools": [{"pool": "gcp/T4", "gpu_model": "T4", "gpus": 8, "usd_per_gpu_hour": 0.4}],
        },
    ],
    "links": [{"src": "aws:us-east-1", "dst": "gcp:us-west1-a", "rtt_ms": 62.0, "gbps": 4.0, "usd_per_gb": 0.09}],
    "tasks": [
        {"task_id": "t2", "gpus": 8, "gpu_models": ["A100"], "expected_s": 7200, "priority": 500},
        {"task_id": "t1", "gpus": 8, "gpu_models": ["A100"], "expected_s": 7200, "priority": 500},
        {
            "task_id": "t3",
            "gpus": 4,
            "expected_s": 3600,
            "spot_ok": True,
            "data": [{"region": "aws:us-east-1", "size_gb": 90}],
        },
        {"task_id": "t4", "gpus": 1, "gpu_models": ["H100"], "expected_s": 60},
        {"task_id": "t5", "gpus": 2, "expected_s": 3600, "replicas": 2},
    ],
    "weights": {"rtt": 0, "risk": 0, "move": 0, "balance": 0, "wait": 1000},
    "current": {"t3": ["aws/A100/spot"]},
}


def _run(document: object, *arguments: str):
    text = document if isinstance(document, str) else json.dumps(document)
    return CliRunner().invoke(plan, ["--problem", "-", *arguments], input=text)


def test_the_plan_document_is_answered_in_the_stable_format():
    answer = _run(DOCUMENT, "--strategy", "flow", "--json")
    assert answer.exit_code == 0
    result = json.loads(answer.stdout)
    assert set(result) >= {"strategy", "status", "objective", "bound", "gap", "solve_ms", "assignments", "unplaced"}
    placed = {entry["task_id"]: entry for entry in result["assignments"]}
    assert placed["t1"]["pools"] == ["aws/A100"]
    # t1 and t2 fill the A100s, so two copies of t5 have one region left: t5 waits; or one of them does for t5's sake.
    assert placed["t3"] == {"task_id": "t3", "pools": ["aws/A100/spot"], "usd": 4.0}
    waiting = {entry["task_id"]: entry["reason"] for entry in result["unplaced"]}
    assert waiting["t4"] == "gpu_model"
    total = sum(entry["usd"] for entry in result["assignments"]) + 1000 * len(result["unplaced"])
    assert result["objective"] == pytest.approx(total)
    assert len(result["assignments"]) + len(result["unplaced"]) == 5


def test_equal_tasks_are_one_class_whatever_their_order():
    read = read_problem(json.dumps(DOCUMENT).encode())
    assert ("t1", "t2") in read.members
    turned = read_problem(json.dumps({**DOCUMENT, "tasks": DOCUMENT["tasks"][::-1]}).encode())
    assert turned.members == read.members


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("regions", 0, "pools", 0, "usd_per_gpu_hour"), -3.0, "$.regions[0].pools[0].usd_per_gpu_hour"),
        (("tasks", 1, "gpus"), "eight", "$.tasks[1].gpus"),
        (("tasks", 1, "task_id"), "t2", "'t2' appears twice"),
        (("tasks", 0, "max_rtt"), 3, "max_rtt"),
        (("tasks", 2, "replicas"), 0, "$.tasks[2].replicas"),
    ],
)
def test_a_bad_document_exits_with_2_and_names_the_place(path, value, message):
    document = json.loads(json.dumps(DOCUMENT))
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    answer = _run(document, "--json")
    assert answer.exit_code == 2
    assert message in answer.stderr
    assert answer.stdout == ""


def test_what_is_not_json_exits_with_2():
    for text in ("", "{", "[1]", '{"regions": NaN}'):
        assert _run(text).exit_code == 2


def test_every_strategy_answers_the_document():
    for strategy in ("flow", "greedy", "genetic", "anneal", "lp"):
        result = json.loads(_run(DOCUMENT, "--strategy", strategy, "--json", "--seed", "3").stdout)
        assert result["strategy"] == strategy
        assert result["bound"] <= result["objective"]


def test_an_item_without_a_region_is_refused():
    with pytest.raises(ProblemFormatError, match="no region"):
        read_problem(
            b'{"regions": [], "tasks": [{"task_id": "t", "gpus": 1, "expected_s": 1, "data": [{"size_gb": 1}]}]}'
        )
