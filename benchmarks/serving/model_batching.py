"""`bench model-batching`: what answering several requests by one computation could save of a request's time.

A request costs reading its JSON, computing, and writing JSON, and beside these HTTP. Computing sixteen samples at once
saves part of the second one: what that is, beside a whole answer and a whole request over loopback, is all that
collecting requests could save at best, before the wait for others is paid for. Processor time, in medians.
"""

import json
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from thalweg.client.model_client import ModelClient
from thalweg.conf.settings import ServingSettings
from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.shrink.sources import NetworkSource, SklearnSource
from thalweg.learning.vectors.parameters import digest
from thalweg.serving.loaded_model import inputs_of, opened
from thalweg.serving.model_server import ModelServer
from thalweg.serving.run_server import ModelHttp, listening_at
from thalweg.serving.tensors import InferRequest
from thalweg.serving.version_record import ModelVersion, Way
from thalweg.stack.machine import describe

TOGETHER: Final = 16
_REQUEST: Final = msgspec.json.Decoder(InferRequest)
_US: Final = 1e6


def measure(rounds: int = 20, each: int = 50) -> dict[str, Any]:
    """Measure networks of three sizes and a forest.

    Args:
        rounds: that a median is taken of.
        each: answers of a round.
    """
    x, y = load_digits(return_X_y=True)
    samples = (x / 16).astype(np.float32)
    forest = RandomForestClassifier(100, random_state=0).fit(samples, y)
    models = {"forest_of_100": SklearnSource(model=forest, inputs=64).onnx(1.0)}
    for hidden in (128, 1_024, 8_192):
        network = LayeredNetwork(inputs=64, hidden=hidden, classes=10)
        models[f"network_of_{hidden}"] = NetworkSource(network=network, vector=network.initial(0)).onnx(1.0)
    return {
        "machine": describe(),
        "together": TOGETHER,
        **{name: _of(bytes(made.SerializeToString()), samples, rounds, each) for name, made in models.items()},
    }


def _of(raw: bytes, samples: Any, rounds: int, each: int) -> dict[str, Any]:
    plain = Way(codec="plain", sha256=digest(raw), size_bytes=len(raw))
    version = ModelVersion(
        version=1, sha256=digest(raw), size_bytes=len(raw), ways=(plain,), inputs=inputs_of(opened(raw))
    )
    server = ModelServer("m", None, timer=time.perf_counter)
    server.want(version)
    server.load_bytes(raw)
    serving = server.serving
    assert serving is not None
    one, several = {"x": samples[:1]}, {"x": samples[:TOGETHER]}
    tensor = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": samples[0].tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    alone = _median_us(lambda: serving.infer(one), rounds, each)
    together = _median_us(lambda: serving.infer(several), rounds, each) / TOGETHER
    answer = _median_us(lambda: server.answer(_REQUEST.decode(body)), rounds, each)
    request = _over_http(server, tensor, rounds, each)
    return {
        "bytes": len(raw),
        "computed_alone_us": round(alone, 1),
        "computed_together_us": round(together, 1),
        "answer_us": round(answer, 1),
        "request_and_caller_us": round(request, 1),
        "most_saved_of_a_request": round((alone - together) / request, 3),
    }


def _median_us(do: Callable[[], object], rounds: int, each: int) -> float:
    do()
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(each):
            do()
        found.append(_US * (time.process_time() - began) / each)
    return statistics.median(found)


def _over_http(server: ModelServer, tensor: dict[str, Any], rounds: int, each: int) -> float:
    """Processor time of a request, of this process: the server's and the caller's together."""
    ready, listening = threading.Event(), listening_at("127.0.0.1", 0)
    http = ModelHttp(
        server, most_body_bytes=1_000_000, linger_s=0, settings=ServingSettings(), host="127.0.0.1", ready=ready.set
    )
    thread = threading.Thread(target=http.serve_until_told, args=(listening,))
    with listening:
        thread.start()
        ready.wait()
        try:
            with ModelClient("m", [f"http://127.0.0.1:{listening.getsockname()[1]}"]) as client:
                return _median_us(lambda: client.infer([tensor]), rounds, each)
        finally:
            http.should_exit = True
            thread.join()
