"""Serve the window until it is stopped."""

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from thalweg.conf.settings import KafkaSettings, Settings
from thalweg.query.reports.followed_tasks import FollowedTasks, events_after
from thalweg.sync.clock import Clock
from thalweg.window.acts import ActSender
from thalweg.window.door import Door
from thalweg.window.feed import Feed
from thalweg.window.foresight import Foresight
from thalweg.window.keys import Keys
from thalweg.window.refused import RefusedWatch
from thalweg.window.reports import Reports
from thalweg.window.watch import LedgerWatch

_GRACE_S = 2
"""Listeners hang on for ever: at the end they are given so long."""


def make_door(
    settings: Settings, warehouse: str, connect: Callable[[], KafkaSettings], clock: Clock, state: Path
) -> Door:
    """Put the window together.

    Args:
        settings: of the installation.
        warehouse: folder or URI of the tables.
        connect: finds the broker, when somebody acts.
        clock: milliseconds since 1970.
        state: state folder whose stack's health is told.

    Raises:
        WindowSettingsError: the keys cannot be used.
    """
    window = settings.window
    keys = Keys(window)
    feed = Feed(lambda position, limit: events_after(warehouse, position, limit))
    watch = LedgerWatch(FollowedTasks(warehouse), feed, clock, look_s=window.look_ms / 1_000, anew_s=window.anew_s)
    reports = Reports(warehouse, settings, watch, RefusedWatch(connect, clock), clock, state)
    foresight = Foresight(warehouse, settings.place, clock, watch.live_tasks)
    return Door(window, keys, watch, feed, reports, ActSender(connect, clock), foresight)


def bound(host: str, port: int) -> socket.socket:
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


def serve(door: Door, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        door: what is served.
        listening: a socket that listens.
        ready: called when it answers.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        door.app(),
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
    )

    class _Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    asyncio.run(_Server(config).serve([listening]))
