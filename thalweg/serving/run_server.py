"""Serve a model over HTTP until it is told to end: then it says so, answers a little longer, and ends in order."""

import asyncio
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Final

import uvicorn

from thalweg.conf.settings import ServingSettings
from thalweg.serving.callers import ModelCallers, ServingSettingsError
from thalweg.serving.door import ModelDoor
from thalweg.serving.model_server import ModelServer

GRACE_S: Final = 2
"""Requests that are under way at the end are given so long."""


def listening_at(host: str, port: int) -> socket.socket:
    """Listen; a port of 0 becomes one that is free.

    Raises:
        OSError: the address is taken, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1_024)
    except OSError:
        listening.close()
        raise
    return listening


class ModelHttp(uvicorn.Server):
    """The HTTP server of one model."""

    def __init__(
        self,
        server: ModelServer,
        *,
        most_body_bytes: int,
        linger_s: float,
        settings: ServingSettings,
        host: str,
        ready: Callable[[], None] = lambda: None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        """Put it together.

        Args:
            server: what answers.
            most_body_bytes: largest request that is read.
            settings: who may ask, and by which certificate.
            host: address that it binds.
            linger_s: how long it goes on after it was told to end, so that callers have turned to others by then.
            ready: called when it answers over HTTP.
            leave: called when it is told to end; says so to callers.

        Raises:
            ServingSettingsError: keys or certificate cannot be used.
        """
        callers = ModelCallers(settings, host)
        self._workers = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="model")
        self._model, self._linger_s, self._ready, self._leave = server, linger_s, ready, leave
        door = ModelDoor(server, self._workers, most_body_bytes=most_body_bytes, callers=callers)
        config = uvicorn.Config(
            door.app(),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_S,
            server_header=False,
            ssl_certfile=settings.tls_certfile,
            ssl_keyfile=settings.tls_keyfile,
        )
        _check_certificate(settings)
        super().__init__(config)

    def serve_until_told(self, listening: socket.socket) -> None:
        """Serve until SIGINT or SIGTERM, in the main thread; in another one until `handle_exit` is called."""
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        try:
            asyncio.run(self.serve([listening]))
        finally:
            self._workers.shutdown(cancel_futures=True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in a while; when told twice, at once."""
        if self._model.leaving:
            self._end()
            return
        self._model.leaving = True
        self._leave()
        ending = threading.Timer(self._linger_s, self._end)
        ending.daemon = True
        ending.start()

    def _end(self) -> None:
        self.should_exit = True


def _check_certificate(settings: ServingSettings) -> None:
    """Read certificate and key as uvicorn will when it is too late for words, and would ask a person for a password.

    Raises:
        ServingSettingsError: they cannot be used.
    """
    if settings.tls_certfile is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_certfile, settings.tls_keyfile, password=lambda: ""
        )
    except OSError as error:  # ssl's errors are among them
        key = "in it" if settings.tls_keyfile is None else settings.tls_keyfile
        raise ServingSettingsError(
            f"serving.tls_certfile {settings.tls_certfile} with the key {key}: {_short(error)}; allowed are PEM files "
            "that belong to each other, the key not encrypted"
        ) from error


def _short(error: OSError) -> str:
    return error.strerror or str(error)
