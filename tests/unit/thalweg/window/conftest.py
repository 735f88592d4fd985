"""A window over a small warehouse, on a free port, with its own server in a thread."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.unit.thalweg.window.histories import random_batches, write_ledger, write_tables
from thalweg.conf.settings import KafkaSettings, Settings, WindowSettings
from thalweg.stack.connection import NoBrokerError
from thalweg.sync.clock import system_clock
from thalweg.window.server import bound, make_door

SECRETS = {"all": "all-tenants-may-act", "ads": "only-for-ads-may-act", "look": "reads-of-research"}


@dataclass
class OpenWindow:
    """A window that is served, and how it is asked."""

    port: int
    folder: str
    batches: Sequence[Any]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, *, method: str = "GET", body: object = None, key: str | None = None, **headers: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {SECRETS.get(key, key)}"
        text = None
        if body is not None:
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection.request(method, path, body=text, headers=sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kind = answer.headers.get("Content-Type", "")
        return answer.status, json.loads(content) if kind == "application/json" else content, answer.headers

    def get(self, path: str, **how: Any) -> Any:
        status, found, _ = self.ask(path, **how)
        assert status == 200, (path, status, found)
        return found


def no_broker() -> KafkaSettings:
    raise NoBrokerError(Path("nowhere"), runs=False)


def window_settings(**more: object) -> WindowSettings:
    keys = {
        "all": {"secret": SECRETS["all"], "acts": True},
        "ads": {"secret": SECRETS["ads"], "acts": True, "tenant": "ads"},
        "look": {"secret": SECRETS["look"], "tenant": "research"},
    }
    return WindowSettings.model_validate({"keys": keys, "look_ms": 20, **more})


Serving = Callable[..., OpenWindow]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Serve windows; all of them end with the module."""
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def serve(
        folder: str, batches: Sequence[Any] = (), connect: Callable[[], KafkaSettings] = no_broker, **settings: object
    ) -> OpenWindow:
        state = tmp_path_factory.mktemp("state")
        door = make_door(Settings(window=window_settings(**settings)), folder, connect, system_clock, state)
        listening = bound("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(door.app(), log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        running.append((server, thread, listening))
        opened = OpenWindow(listening.getsockname()[1], folder, batches)
        while opened.ask("/healthz")[0] != 200:
            threading.Event().wait(0.02)
        return opened

    yield serve
    for server, _, _ in running:
        server.should_exit = True
    for _, thread, listening in running:
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def window(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> OpenWindow:
    """A window over some eighty tasks; batches from the eighth on are not written yet."""
    folder = str(tmp_path_factory.mktemp("warehouse"))
    batches = random_batches(4, 10, 80)
    write_ledger(folder, batches[:8])
    write_tables(folder, batches[:7])
    return serving(folder, batches)
