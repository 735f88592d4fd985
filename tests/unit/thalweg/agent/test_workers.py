import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.thalweg.agents import assign
from thalweg.agent.workers import environment, with_own_programs, workers_of
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare


def environment_of(own: dict[str, str], env: dict[str, str] | None = None) -> dict[str, str]:
    event = assign("t", env=env or {})
    workers = workers_of(event)
    return environment(event, workers[0], workers, own=own, secrets={}, files={}, master_port=7)


def environments(event: AssignmentEvent, secrets: dict[str, str] | None = None) -> list[dict[str, str]]:
    workers = workers_of(event)
    own = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "agent's"}
    return [
        environment(
            event, worker, workers, own=own, secrets=secrets or {}, files={"THALWEG_RESULT": "/r"}, master_port=7
        )
        for worker in workers
    ]


def test_ranks_are_dense_over_nodes_as_torchrun_counts_them() -> None:
    shares = [
        NodeShare(node_id="a", workers=2, gpus=4, devices=[0, 1, 2, 3], cpus=8, memory_gb=64),
        NodeShare(node_id="b", workers=1, gpus=2, devices=[6, 7]),
    ]
    seen = environments(assign("t", nodes=shares))
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "CUDA_VISIBLE_DEVICES")
    assert [tuple(values[name] for name in names) for values in seen] == [
        ("0", "0", "3", "2", "0", "0,1"),
        ("1", "1", "3", "2", "0", "2,3"),
        ("2", "0", "3", "1", "1", "6,7"),
    ]
    assert {(values["MASTER_ADDR"], values["MASTER_PORT"]) for values in seen} == {("127.0.0.1", "7")}
    assert [values["THALWEG_NODE_ID"] for values in seen] == ["a", "a", "b"]
    first = workers_of(assign("t", nodes=shares))[0]
    assert (first.cpus, first.memory_gb) == (4, 32)


def test_a_task_of_one_worker_is_not_told_that_it_is_distributed() -> None:
    (seen,) = environments(assign("t", devices=[1, 3]))
    assert seen["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert (seen["THALWEG_RANK"], seen["THALWEG_WORLD_SIZE"]) == ("0", "1")
    assert not seen.keys() & {"RANK", "WORLD_SIZE", "MASTER_ADDR"}


def test_workers_that_share_one_gpu_each_see_it_and_one_without_gpus_sees_none() -> None:
    shared = NodeShare(node_id="a", workers=3, gpu_milli=900, devices=[2, 2, 5])
    seen = environments(assign("t", nodes=[shared, NodeShare(node_id="b")]))
    assert [values["CUDA_VISIBLE_DEVICES"] for values in seen] == ["2", "2", "5", ""]


def test_what_is_reserved_wins_over_secrets_over_env_over_what_the_agent_passes_on() -> None:
    env = {"PATH": "/task", "TOKEN": "env", "THALWEG_RESULT": "/etc/passwd", "RANK": "9", "CUDA_VISIBLE_DEVICES": "0"}
    nodes = [NodeShare(node_id="a", workers=2)]
    seen = environments(assign("t", nodes=nodes, env=env), {"TOKEN": "secret", "THALWEG_REGION": "mine"})[0]
    assert (seen["PATH"], seen["TOKEN"], seen["THALWEG_RESULT"], seen["RANK"]) == ("/task", "secret", "/r", "0")
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["THALWEG_REGION"]) == ("", "aws:us-east-1")
    assert "AWS_SECRET_ACCESS_KEY" not in seen


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.integers(0, 4)), max_size=6))
def test_every_worker_has_a_rank_of_its_own_and_no_gpu_is_anothers(parts: list[tuple[str, int, int]]) -> None:
    free = dict.fromkeys("abc", 0)
    shares = []
    for node, workers, each in parts:
        devices = list(range(free[node], free[node] + workers * each))
        free[node] += len(devices)
        shares.append(NodeShare(node_id=node, workers=workers, gpus=len(devices), devices=devices))
    made = workers_of(assign("t", nodes=shares))
    assert [worker.rank for worker in made] == list(range(max(1, sum(workers for _, workers, _ in parts))))
    assert len({(worker.node_rank, worker.local_rank) for worker in made}) == len(made)
    assert [worker.node_rank for worker in made] == sorted(worker.node_rank for worker in made)
    given_out = [(worker.node_id, device) for worker in made for device in worker.devices]
    assert sorted(given_out) == sorted((share.node_id, device) for share in shares for device in share.devices)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/usr/bin:/bin", "/usr/bin:/bin:/venv/bin"),
        ("/venv/bin:/bin", "/venv/bin:/bin"),
        ("", "/venv/bin"),
        ("/usr/bin::", "/usr/bin:/venv/bin"),
    ],
)
def test_the_agents_own_programs_are_found_last(path: str, wanted: str) -> None:
    assert with_own_programs(path, "/venv/bin") == wanted


def test_a_task_finds_the_agents_python_and_its_own_path_wins() -> None:
    found = environment_of(own={"PATH": "/bin"})
    assert found["PATH"].split(os.pathsep) == ["/bin", os.path.dirname(sys.executable)]
    assert environment_of(own={"PATH": "/bin"}, env={"PATH": "/mine"})["PATH"] == "/mine"


def test_participants_and_model_servers_are_told_where_to_turn_and_not_as_whom_the_agent_speaks() -> None:
    own = {
        "THALWEG_KAFKA__BOOTSTRAP_SERVERS": "b:1",
        "THALWEG_KAFKA__TOPIC_PREFIX": "p",
        "THALWEG_FEDERATE__PAYLOADS": "/payloads",
        "THALWEG_KAFKA__SASL_PASSWORD": "agent's",
        "THALWEG_KAFKA__SSL_CERTFILE": "/agent.pem",
        "THALWEG_MODELS": "/agent/models",
    }

    def told(kind: str) -> dict[str, str]:
        event = assign("t", kind=kind, env={"THALWEG_KAFKA__TOPIC_PREFIX": "said"} if kind == "federated" else {})
        workers = workers_of(event)
        values = environment(event, workers[0], workers, own=own, secrets={}, files={}, master_port=7)
        return {name: value for name, value in values.items() if "__" in name or name == "THALWEG_MODELS"}

    assert told("batch") == {}
    assert told("infer") == {
        "THALWEG_KAFKA__BOOTSTRAP_SERVERS": "b:1",
        "THALWEG_KAFKA__TOPIC_PREFIX": "p",
        "THALWEG_FEDERATE__PAYLOADS": "/payloads",
        "THALWEG_MODELS": "/agent/models",
    }
    assert told("federated") == {
        "THALWEG_KAFKA__BOOTSTRAP_SERVERS": "b:1",
        "THALWEG_KAFKA__TOPIC_PREFIX": "said",
        "THALWEG_FEDERATE__PAYLOADS": "/payloads",
    }
