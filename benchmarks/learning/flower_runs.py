"""Rounds of Flower's FedAvg on the digits, by Flower's own simulation or by our grid: one program for both.

It is run by an interpreter that has thalweg[flower], `flwr[simulation]` and scikit-learn (`thalweg bench federate --set
parts=flower`), and prints one JSON object. App, strategy, training and dealing are the same objects in both; what
differs is who brings the messages to the apps. It is imported and not run as a program, so that the processes of
Flower's simulation find the app by its name.
"""

import argparse
import json
import os
import random
import time
from contextlib import suppress
from functools import cache
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import flwr
import numpy as np
import psutil
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from thalweg.federation.trial import load
from thalweg.flower.client_node import ClientNode
from thalweg.flower.local_grid import LocalGrid
from thalweg.learning.local.dealing import dealt
from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.local.training import LocalTraining, trained

TRAINING = LocalTraining(rate=0.5)
NETWORK = LayeredNetwork(inputs=64, hidden=32, classes=10)

app = ClientApp()


@cache
def _dealt(clients: int, alpha: float, seed: int) -> Any:
    samples = load("digits", seed)
    return samples, dealt(samples.y, clients, alpha, seed)


@app.train()  # type: ignore[untyped-decorator, unused-ignore]
def train(message: Message, context: Context) -> Message:
    """Train as `thalweg federate run` does, from the version in the message."""
    told = message.content["config"]
    samples, deal = _dealt(int(told["clients"]), float(told["alpha"]), int(told["seed"]))
    partition, number = int(context.node_config["partition-id"]), int(told["server-round"])
    own = deal[partition]
    (begin,) = message.content["arrays"].to_numpy_ndarrays()
    seed = int(told["seed"]) * 10**9 + partition * 10**5 + number
    after, loss, _ = trained(NETWORK, begin, samples.x[own], samples.y[own], TRAINING, seed)
    metrics = MetricRecord({"num-examples": int(own.size), "loss": loss})
    return Message(RecordDict({"arrays": ArrayRecord([after]), "metrics": metrics}), reply_to=message)


def learn(grid: Grid, clients: int, alpha: float, rounds: int, seed: int) -> dict[str, Any]:
    """Let FedAvg learn, all clients in each round; the first round brings everything up and is told apart."""
    samples, _ = _dealt(clients, alpha, seed)
    random.seed(seed)
    at_s: list[float] = []
    spent_s: list[float] = []

    def note(number: int, arrays: ArrayRecord) -> None:
        at_s.append(time.perf_counter())
        spent_s.append(_processor_s())

    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=clients, min_train_nodes=clients)
    config = ConfigRecord({"clients": clients, "alpha": alpha, "seed": seed})
    begin = ArrayRecord([NETWORK.initial(seed)])
    result = strategy.start(grid, begin, num_rounds=rounds, train_config=config, evaluate_fn=note)
    (weights,) = result.arrays.to_numpy_ndarrays()
    return {
        "first_round_s": round(at_s[1] - at_s[0], 3),
        "later_rounds_s": round(at_s[-1] - at_s[1], 3),
        "rounds_per_second": round((rounds - 1) / (at_s[-1] - at_s[1]), 3),
        "processor_s_per_round": round((spent_s[-1] - spent_s[1]) / (rounds - 1), 4),
        "accuracy": round(NETWORK.accuracy(weights, samples.test_x, samples.test_y), 4),
    }


def _processor_s() -> float:
    """Processor time of this process and all that it has started and still runs: a busy machine changes it little."""
    this = psutil.Process()
    spent = 0.0
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent


def by_our_grid(clients: int, alpha: float, rounds: int, seed: int) -> dict[str, Any]:
    """Run the apps by our grid, in as many processes as Flower's simulation makes actors: one for each processor."""
    nodes = [ClientNode("digits", f"p{i}", app, node_config={"partition-id": i}) for i in range(clients)]
    return learn(LocalGrid("digits", nodes, processes=os.cpu_count() or 1), clients, alpha, rounds, seed)


def by_simulation(clients: int, alpha: float, rounds: int, seed: int) -> dict[str, Any]:
    """Run the apps by Flower's simulation, one processor to an actor, which is its default."""
    from flwr.simulation import run_simulation

    found: dict[str, Any] = {}
    server = ServerApp()

    @server.main()  # type: ignore[untyped-decorator, unused-ignore]
    def main(grid: Grid, context: Context) -> None:
        found.update(learn(grid, clients, alpha, rounds, seed))

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server_app=server, client_app=app, num_supernodes=clients, backend_config=resources)
    return found


def main() -> None:
    """Run one of both."""
    options = argparse.ArgumentParser()
    options.add_argument("engine", choices=["grid", "simulation"])
    options.add_argument("--clients", type=int, default=100)
    options.add_argument("--alpha", type=float, default=0.1)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    began = time.perf_counter()
    run = {"grid": by_our_grid, "simulation": by_simulation}[asked.engine]
    found = run(asked.clients, asked.alpha, asked.rounds, asked.seed)
    whole_s = round(time.perf_counter() - began, 3)
    print(json.dumps({**found, "whole_s": whole_s, "flwr": flwr.__version__, "numpy": np.__version__}))
