"""What Flower's strategies rely on, asked of the grid in one process and of the one over topics alike."""

import multiprocessing
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="Flower has an environment of its own: ./run test-flower")

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from tests.flower_stage import NAMES, SIZE, STRATEGIES, FlowerStage, learning_app, names_and_configs, outcome
from tests.flower_stage import threads_that_take_part as taking_part
from tests.patience import PATIENCE_S
from thalweg.conf.settings import KafkaSettings
from thalweg.flower.client_node import ClientNode
from thalweg.flower.connection import kafka_grid
from thalweg.flower.local_grid import LocalGrid
from thalweg.flower.node_workers import WorkerGoneError
from thalweg.flower.numbers import number_of

Make = Callable[[str], Grid]


def local_grid(run: str, processes: int = 1) -> LocalGrid:
    made = learning_app()
    nodes = [ClientNode(run, name, made, node_config=config) for name, config in names_and_configs()]
    return LocalGrid(run, nodes, processes=processes)


@pytest.fixture(params=["local", "processes", "topics", pytest.param("kafka", marks=pytest.mark.acceptance)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make a grid with everybody there."""
    if request.param == "local":
        yield local_grid
    elif request.param == "processes":
        grids = []

        def in_processes(run: str) -> LocalGrid:
            grids.append(local_grid(run, processes=2))
            return grids[-1]

        yield in_processes
        for grid in grids:
            grid.close()
    elif request.param == "topics":

        def over_topics(run: str) -> Grid:
            stage = FlowerStage(tmp_path)
            for name in NAMES:
                stage.participant(run, name, learning_app())
            return stage.grid(run)

        yield over_topics
    else:
        broker = request.getfixturevalue("broker")
        kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=f"flower-{uuid.uuid4().hex[:8]}")
        opened = []

        def over_kafka(run: str) -> Grid:
            threads = taking_part(run, NAMES, kafka, tmp_path, learning_app())
            threads.__enter__()
            grid = kafka_grid(run, kafka, payloads=str(tmp_path / "payloads"), inline_bytes=200)
            opened.append((threads, grid))
            grid.wait_for(len(NAMES), PATIENCE_S)
            return grid

        yield over_kafka
        for threads, grid in opened:
            threads.__exit__(None, None, None)
            grid.close()


def asked(number: int, kind: str = "train", ttl: float | None = None, server_round: int = 1) -> Message:

    arrays = ArrayRecord([np.ones(SIZE, np.float32)])
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": server_round})})
    return Message(content, number, kind, ttl=ttl)


def test_nodes_are_numbered_by_their_names_in_ascending_order(make: Make) -> None:
    assert list(make("r").get_node_ids()) == sorted(number_of("r", name) for name in NAMES)


def test_replies_come_in_the_order_of_the_calls_and_name_them(make: Make) -> None:
    grid = make("r")
    numbers = list(reversed(list(grid.get_node_ids())))
    replies = list(grid.send_and_receive([asked(number) for number in numbers], timeout=60))
    assert [reply.metadata.src_node_id for reply in replies] == numbers
    assert all(reply.has_content() and reply.metadata.message_type == "train" for reply in replies)
    assert len({reply.metadata.reply_to_message_id for reply in replies}) == len(NAMES)


def test_a_reply_is_pulled_once(make: Make) -> None:
    grid = make("r")
    ids = list(grid.push_messages([asked(number) for number in grid.get_node_ids()]))
    pulled: list[Message] = []
    ends = time.monotonic() + PATIENCE_S
    while len(pulled) < len(ids) and time.monotonic() < ends:
        pulled += grid.pull_messages(ids)
        time.sleep(0.01)
    assert sorted(one.metadata.reply_to_message_id for one in pulled) == sorted(ids)
    assert list(grid.pull_messages(ids)) == []


def test_the_same_asked_twice_is_two_calls_and_the_same_run_asks_by_the_same_ids(make: Make) -> None:
    grid = make("r")
    number = next(iter(grid.get_node_ids()))
    first, second = grid.push_messages([asked(number), asked(number)])
    assert first != second
    again, other = local_grid("r"), local_grid("s")
    assert list(again.push_messages([asked(number), asked(number)])) == [first, second]
    assert first not in other.push_messages([asked(n) for n in other.get_node_ids()])


def test_what_an_app_raises_is_an_error_in_the_reply(make: Make) -> None:
    grid = make("r")
    (reply,) = grid.send_and_receive([asked(next(iter(grid.get_node_ids())), "query")], timeout=60)
    assert reply.has_error() and reply.error.reason == "RuntimeError: this one fails"


def test_a_node_that_nobody_is_is_an_error_in_the_reply(make: Make) -> None:
    grid = make("r")
    number = next(iter(grid.get_node_ids()))
    nobody, reply = grid.send_and_receive([asked(5), asked(number)], timeout=60)
    assert nobody.has_error() and "node 5 does not take part in r" in nobody.error.reason
    assert reply.has_content()


def test_what_was_sent_is_not_sent_again_and_nothing_is_waited_for_longer_than_it_is_kept(make: Make) -> None:
    grid = make("r")
    number = next(iter(grid.get_node_ids()))
    message = asked(number)
    grid.push_messages([message])
    with pytest.raises(ValueError, match="allowed is one that was not sent yet"):
        grid.push_messages([message])
    with pytest.raises(ValueError, match="ttl of 100000 s: allowed are up to 86,400 seconds"):
        grid.push_messages([asked(number, ttl=100_000)])


def test_it_is_of_one_run(make: Make) -> None:
    grid = make("r")
    grid.set_run(Run.create_empty(grid.run.run_id))
    with pytest.raises(ValueError, match="this grid is of the run 'r'"):
        grid.set_run(Run.create_empty(7))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_learns_the_same_bits_wherever_the_apps_run(make: Make, name: str) -> None:
    made = outcome(make("r"), STRATEGIES[name]())
    assert made == outcome(local_grid("r"), STRATEGIES[name]())
    assert made[0] != outcome(local_grid("r"), STRATEGIES[name](), rounds=2)[0]
    assert made[2][3]["size"] > 0


def test_a_process_that_is_gone_is_named_and_the_others_end_with_their_grid() -> None:
    grid = local_grid("r", processes=2)
    first, second = multiprocessing.active_children()
    first.kill()
    first.join(60)
    with pytest.raises(WorkerGoneError, match="has ended"):
        grid.send_and_receive([asked(number) for number in grid.get_node_ids()], timeout=60)
    grid.close()
    second.join(60)
    assert second.exitcode == 0
