"""A relay before an S3 of one's own, which loses answers."""

import contextlib
import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from tests.patience import PATIENCE_S
from thalweg.processes.ports import LOOPBACK
from thalweg.stack.s3_server import s3_server

_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass(slots=True)
class LossyRelay:
    """Hands every request on; the answers to some are lost after the store has done what was asked."""

    store: tuple[str, int]
    address: str = ""
    """Of the relay. It is a thread of this process: what holds the interpreter while it asks would wait for ever."""
    lose: set[str] = field(default_factory=set)
    """Ends of paths: the next PUT of each goes through, and nobody hears of it."""
    lost: list[str] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Relay one request."""
        body = _body(handler)
        behind = http.client.HTTPConnection(*self.store)
        sent = {name: value for name, value in handler.headers.items() if name.lower() not in _HOP}
        behind.request(handler.command, handler.path, body=body, headers=sent)
        answer = behind.getresponse()
        content = answer.read()
        behind.close()
        path = handler.path.partition("?")[0]
        due = [end for end in self.lose if handler.command == "PUT" and path.endswith(end)]
        if due:
            self.lose.difference_update(due)
            self.lost.append(path)
            handler.close_connection = True
            return
        handler.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                handler.send_header(name, value)
        length = answer.getheader("Content-Length") if handler.command == "HEAD" else str(len(content))
        handler.send_header("Content-Length", length or "0")
        handler.end_headers()
        with contextlib.suppress(BrokenPipeError):  # a client that has gone
            handler.wfile.write(content)


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    parts = []
    while size := int(handler.rfile.readline().partition(b";")[0], 16):
        parts.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(parts)


@contextmanager
def relayed_store(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[tuple[str, LossyRelay]]:
    """Give a bucket's address, which this process and its children reach, and a relay before its server."""
    with s3_server(folder, patience_s=PATIENCE_S) as store:
        relay = LossyRelay(store=(LOOPBACK, store.port))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: object) -> None:
                pass

            def do_any(self) -> None:
                relay.answer(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any  # noqa: N815 (the library's names)

        front = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        front.daemon_threads = True
        threading.Thread(target=front.serve_forever, daemon=True).start()
        relay.address = f"http://{LOOPBACK}:{front.server_address[1]}"
        for name, value in store.environment.items():
            patch.setenv(name, value)
        try:
            yield store.uri, relay
        finally:
            front.shutdown()
            front.server_close()
