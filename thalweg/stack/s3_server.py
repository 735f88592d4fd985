"""An S3 of one's own on the loopback interface: moto's server, which keeps its objects in memory.

What the pages promise of a warehouse and checkpoints on S3 is shown with this (`tests/acceptance`,
`benchmarks/clusters`). Its log has a line for each request, which is how they are counted.
"""

import http.client
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from thalweg.conf.environment import SetupIncompleteError
from thalweg.processes.children import Child, ProcessSpec
from thalweg.processes.ports import LOOPBACK, accepts_connections, free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A server that runs, with one bucket."""

    port: int
    bucket: str
    log: Path

    @property
    def uri(self) -> str:
        """Return the bucket's address."""
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables that name the store to whoever writes there (docs/how-to/operations.md)."""
        return {
            "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{self.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
        }


def check_installed() -> None:
    """Look before anything is begun.

    Raises:
        SetupIncompleteError: there is no moto here.
    """
    if any(find_spec(package) is None for package in ("moto", "flask_cors")):
        raise SetupIncompleteError(
            "The S3 server moto is not installed.", f"Get it: {sys.executable} -m pip install 'moto[s3]' flask-cors"
        )


@contextmanager
def s3_server(folder: Path, *, patience_s: float = 60.0) -> Iterator[S3Server]:
    """Run the server with an empty bucket; a process of its own, so that it waits for nobody who asks.

    Args:
        folder: for its log.
        patience_s: for it to listen.

    Raises:
        SetupIncompleteError: there is no moto here.
        ChildFailedError: it ended, or did not listen in time.
    """
    check_installed()
    port = free_port()
    spec = ProcessSpec(
        name="S3 server",
        argv=(sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)),
        is_ready=lambda: accepts_connections(port),
        ready_timeout_seconds=patience_s,
    )
    store = S3Server(port=port, bucket=f"b{uuid.uuid4().hex[:8]}", log=folder / "s3-server.log")
    server = Child(spec, store.log)
    try:
        server.wait_ready()
        asking = http.client.HTTPConnection(LOOPBACK, port)
        asking.request("PUT", f"/{store.bucket}")
        answer = asking.getresponse()
        asking.close()
        if answer.status != http.client.OK:
            raise RuntimeError(f"the store makes no bucket: {answer.status} {answer.reason}")
        yield store
    finally:
        server.kill()
