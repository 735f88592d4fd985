"""A roll-out over HTTP: what is desired changes under load, both versions answer by the coin, and no request fails."""

import json
import random
import threading
from pathlib import Path

from tests.unit.jobs.rollout.small_plane import MODEL, SmallPlane
from tests.unit.thalweg.serving.models import model, question
from tests.unit.thalweg.serving.rollout_edge import RolloutEdge, named, wanted
from tests.unit.thalweg.serving.test_served import at_http, call, label
from thalweg.client.model_client import ModelClient
from thalweg.learning.rollout.waves import answers

ONE, TWO, THREE = model(1), model(2), model(3)
V1, V2, V3 = named(1, ONE), named(2, TWO), named(3, THREE)
INFER, OUTCOME = f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}/outcome"
CALLERS, EACH = 4, 20


def began(folder: Path) -> RolloutEdge:
    edge = RolloutEdge(folder, SmallPlane())
    edge.store.put([ONE, TWO, THREE])
    edge.desire(wanted(1, V1))
    return edge


def test_what_is_desired_changes_under_load_and_no_request_fails(tmp_path: Path) -> None:
    edge = began(tmp_path)
    done, counted = threading.Event(), threading.Semaphore(0)
    found: list[tuple[int, int]] = []
    failures: list[BaseException] = []

    def ask(seed: int, url: str) -> None:
        with ModelClient(MODEL, [url], rng=random.Random(seed), timeout_s=30) as client:
            number = 0
            while not done.is_set():
                number += 1
                try:
                    answer = client.infer([question()], (), f"{seed}-{number}")
                    found.append((int(answer["model_version"]), label(answer)))
                except BaseException as error:
                    failures.append(error)
                counted.release()

    with at_http(edge.server) as (url, _, _):
        callers = [threading.Thread(target=ask, args=(seed, url)) for seed in range(CALLERS)]
        for caller in callers:
            caller.start()
        for number in range(2, 12, 2):
            for desired in (
                wanted(number, V1, V2), wanted(number, V1),  # tried, and rolled back
                wanted(number + 1, V1, V3), wanted(number + 1, V3),  # tried, and completed
                wanted(number + 1, V1),
            ):  # fmt: skip
                edge.desire(desired)
                for _ in range(EACH):
                    assert counted.acquire(timeout=30)
        done.set()
        for caller in callers:
            caller.join(30)
        told = edge.server.told()
    assert failures == []
    assert told["failed"] == told["refused"] == told["shed"] == 0
    assert all(version == named for version, named in found), "an answer of another version than it says"
    assert {version for version, _ in found} == {1, 2, 3}
    assert len(found) == told["requests"]


def test_the_id_of_a_request_says_which_version_answers_and_under_it_the_truth_is_told(tmp_path: Path) -> None:
    edge = began(tmp_path)
    edge.desire(wanted(2, V1, V2))
    with at_http(edge.server) as (url, _, _):
        new = 0
        for number in range(60):
            asked = json.dumps({"id": f"r{number}", "inputs": [question()]}).encode()
            status, answer = call(url, INFER, asked)
            new += (is_new := answers(2, edge.name, f"r{number}", 0.5))
            assert (status, answer["id"], answer["model_version"]) == (200, f"r{number}", "2" if is_new else "1")
            said = json.dumps({"id": f"r{number}", "correct": not is_new}).encode()
            assert call(url, OUTCOME, said) == (200, {"id": f"r{number}"})
            assert call(url, OUTCOME, said)[0] == 404, "it is counted once"
        for body, words in ((b"{}", "missing required field"), (b'{"id": "r", "correct": 1}', "Expected `bool`")):
            status, answer = call(url, OUTCOME, body)
            assert (status, words in answer["error"]) == (400, True), answer
    edge.steps(1)
    said_of = edge.reported()
    assert (said_of.new.judged, said_of.new.wrong) == (new, new)
    assert (said_of.last.judged, said_of.last.wrong) == (60 - new, 0)


def test_without_a_roll_out_nothing_is_asked_back_and_ids_are_the_callers(tmp_path: Path) -> None:
    edge = began(tmp_path)
    with at_http(edge.server) as (url, _, _):
        status, answer = call(url, INFER, json.dumps({"inputs": [question()]}).encode())
        assert status == 200 and "id" not in answer
        status, answer = call(url, OUTCOME, b'{"id": "r", "correct": true}')
        assert (status, "on trial" in answer["error"]) == (404, True)
