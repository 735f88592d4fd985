"""Every end is told to every address at least once, signed, and never to where it must not go."""

import hashlib
import hmac
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from thalweg.hooks.hook import Hook, HookPosition, pauses
from thalweg.hooks.post import Delivery, HookRefusedError, check_url, objection, post
from thalweg.streams.broker.memory import MemoryBroker, MemoryReader
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.messages import TaskEnd

TOPIC = "thalweg.results"


class Listener:
    """A web server that answers as it is told and keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []
        listener = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.heard.append((self.path, dict(self.headers), body))
                self.send_response(listener.answers.pop(0) if listener.answers else 204)
                self.send_header("Location", "http://169.254.169.254/")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.server.shutdown()
    made.server.server_close()


def send(url: str, body: bytes = b"{}", secret: bytes | None = None, allow_metadata: bool = False) -> Delivery:
    return post(url, body, "event-1", secret, timeout_s=5, allow_metadata=allow_metadata)


def test_an_event_is_posted_with_its_id_and_a_signature(listener: Listener) -> None:
    assert send(listener.url, b'{"a": 1}', b"secret").done
    ((path, headers, body),) = listener.heard
    assert (path, body) == ("/hook?x=1", b'{"a": 1}')
    assert headers["Thalweg-Event-Id"] == "event-1"
    assert headers["Thalweg-Signature"] == f"sha256={hmac.new(b'secret', body, hashlib.sha256).hexdigest()}"
    assert send(listener.url).done
    assert "Thalweg-Signature" not in listener.heard[1][1]


@pytest.mark.parametrize(
    ("status", "done", "again"),
    [(200, True, False), (301, False, False), (307, False, False), (404, False, False), (429, False, True),
     (503, False, True)],
)  # fmt: skip
def test_an_answer_says_whether_to_try_again_and_nobody_is_followed(
    listener: Listener, status: int, done: bool, again: bool
) -> None:
    listener.answers = [status]
    made = send(listener.url)
    assert (made.done, made.again) == (done, again)
    assert len(listener.heard) == 1


def test_who_does_not_listen_is_asked_again(listener: Listener) -> None:
    listener.server.shutdown()
    listener.server.server_close()
    assert send(listener.url) == Delivery(done=False, again=True, words=send(listener.url).words)


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("169.254.169.254", True),
        ("::ffff:169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("93.184.216.34", False),
    ],
)
def test_where_clouds_answer_with_credentials_nothing_is_sent(address: str, wrong: bool) -> None:
    assert (objection(address, allow_metadata=False) is not None) == wrong
    if address not in ("0.0.0.0", "224.0.0.1"):
        assert objection(address, allow_metadata=True) is None


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:a9fe:a9fe]", "0xA9FEA9FE", "2852039166"])
def test_however_the_address_is_written(host: str) -> None:
    made = send(f"http://{host}/latest/meta-data")
    assert (made.done, made.again, "credentials" in made.words) == (False, False, True), made


@pytest.mark.parametrize("url", ["ftp://x/", "file:///etc/passwd", "//x", "http://", "http://u:p@x/", "http://x:port/"])
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(HookRefusedError, match="wanted is as in https"):
        check_url(url)


def test_pauses_grow_and_end() -> None:
    found = list(pauses(1_000.0))
    assert found[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert max(found) <= 300.0 and sum(found[:-1]) < 1_000.0 <= sum(found)
    assert list(pauses(0.0)) == []


class Told:
    """What an address takes, and how it answers: a word for each attempt, then it takes all."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.took: list[str] = []
        self.stop = threading.Event()

    def send(self, body: bytes, event_id: str) -> Delivery:
        word = self.words.pop(0) if self.words else "takes"
        if word == "dies":
            raise KeyboardInterrupt
        if word == "takes":
            self.took.append(msgspec.json.decode(body, type=TaskEnd).task_id)
        return Delivery(done=word == "takes", again=word == "busy", words=word)


class EndingReader:
    """Reads what there is, and then stops the hook."""

    def __init__(self, reader: MemoryReader, stop: threading.Event) -> None:
        self._reader = reader
        self._stop = stop
        self.end_offsets = reader.end_offsets
        self.close = reader.close

    def poll(self, timeout_ms: int) -> list:  # type: ignore[type-arg]
        found = self._reader.poll(0)
        if not found:
            self._stop.set()
        return found


def ended(broker: MemoryBroker, *task_ids: str, state: str = "succeeded") -> None:
    broker.create([TOPIC])
    for task_id in task_ids:
        event = TaskEnd(event_id=f"e-{task_id}", task_id=task_id, state=state, tenant="t")  # type: ignore[arg-type]
        broker.publish([OutgoingRecord(topic=TOPIC, key=task_id.encode(), value=msgspec.json.encode(event))])


def follow(broker: MemoryBroker, folder: Path, told: Told, *states: str, give_up_after_s: float = 0.0) -> None:
    position = HookPosition(folder, "http://x/")
    hook = Hook(
        "http://x/", position, told.send,
        states=frozenset(states or ("succeeded", "failed")), give_up_after_s=give_up_after_s, stop=told.stop,
    )  # fmt: skip
    told.stop.wait = lambda seconds=None: False  # type: ignore[method-assign, assignment]
    start = lambda topic, partition: position.offsets.get((topic, partition), 0)  # noqa: E731
    hook.follow(EndingReader(MemoryReader(broker, topics=[TOPIC], start=start), told.stop))


def test_each_end_is_told_once_it_is_followed_and_again_only_after_a_kill(tmp_path: Path) -> None:
    broker = MemoryBroker(clock=lambda: 0)
    ended(broker, "before")
    follow(broker, tmp_path, first := Told())
    assert first.took == []  # what was before is not told to a new address
    ended(broker, "a", "b", "c")
    killed = Told("takes", "dies")
    with pytest.raises(KeyboardInterrupt):
        follow(broker, tmp_path, killed, give_up_after_s=10)
    follow(broker, tmp_path, after := Told(), give_up_after_s=10)
    assert (killed.took, after.took) == (["a"], ["b", "c"])
    follow(broker, tmp_path, none := Told(), give_up_after_s=10)
    assert none.took == []


def test_who_is_busy_is_asked_again_and_given_up_in_the_end(tmp_path: Path) -> None:
    broker = MemoryBroker(clock=lambda: 0)
    broker.create([TOPIC])
    follow(broker, tmp_path, Told())
    ended(broker, "a", "b")
    ended(broker, "c", state="cancelled")
    told = Told("busy", "busy", "takes", "never")  # b is refused for good
    follow(broker, tmp_path, told, give_up_after_s=100)
    assert told.took == ["a"]
    ended(broker, "d")
    gone = Told(*["busy"] * 4)
    follow(broker, tmp_path, gone, give_up_after_s=5)
    assert (gone.took, gone.words) == ([], [])  # at once, and after 1, 2 and 4 seconds
    ended(broker, "e", state="cancelled")
    follow(broker, tmp_path, only := Told(), "cancelled", give_up_after_s=5)
    assert only.took == ["e"]
