"""What goes on beside the requests: the declared version is followed, and the server says how it is.

Neither is needed to answer. While the broker or the store of payloads is away, what serves goes on, and this tries
again.
"""

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from thalweg.scheduling.ids import RegionId
from thalweg.serving.announcements import write_gone, write_status
from thalweg.serving.model_server import ModelServer
from thalweg.serving.rollout_follower import REPORT_EVERY_MS, RolloutFollower
from thalweg.serving.version_record import ModelVersion
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.broker.publish import Publisher
from thalweg.streams.contract.messages import ServerStatus
from thalweg.streams.learning.payloads import PayloadError
from thalweg.sync.clock import Clock

log: Final = logging.getLogger("thalweg.serving")

LOOK_MS: Final = 100
"""How long one look for a new version waits: a swap should not wait much longer than its bytes take."""
TELL_EVERY_MS: Final = 2_000
AGAIN_MS: Final = 1_000
MOST_AGAIN_MS: Final = 30_000
"""What could not be reached is tried again after so long, twice as long each time up to this."""


class Wanted(Protocol):
    """Which version is to be served (`wanted_version`)."""

    trouble: str

    def refresh(self, timeout_ms: int) -> ModelVersion | None:
        """Read what has arrived."""

    def close(self) -> None:
        """Let go."""


@dataclass(slots=True, kw_only=True)
class VersionFollower:
    """Of one server. One thread."""

    server: ModelServer
    name: str
    """Of the server."""
    region: str
    url: str
    prefix: str
    """Of the topics."""
    connect: Callable[[], tuple[Wanted, Publisher]]
    """Reaches the broker; raises a StreamError where it does not answer."""
    get: Callable[[str], bytes]
    """Reads a payload by its digest."""
    clock: Clock
    """For what is said of when something was."""
    steady: Clock
    """For when something is done again."""
    metrics: Path | None = None
    """Where a task tells its figures; None where it is none."""
    rollout: RolloutFollower | None = None
    """What the edge does in roll-outs, before what is declared for all; None where it takes part in none."""
    report_every_ms: int = REPORT_EVERY_MS
    """Between two reports of an edge, where nothing else makes one due."""
    _connected: tuple[Wanted, Publisher] | None = None
    _declared: ModelVersion | None = None
    _trouble: dict[str, str] = field(default_factory=dict)
    _due: dict[str, int] = field(default_factory=dict)
    _pause: dict[str, int] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        """Go round until asked to stop, then say that the server goes."""
        while not stop.is_set():
            self.step()
            if self._connected is None:
                stop.wait(LOOK_MS / 1_000)
        self.say_gone()
        self.close()

    def step(self) -> None:
        """Look once for a version, load it if there is one, and tell when it is time."""
        self._try("broker", self._look, StreamError)
        self._try("store", self._load, PayloadError, OSError)
        if self._is_due("tell", TELL_EVERY_MS):
            self._try("figures", self._write_figures)
            self._try("tell", self._tell, StreamError)
        if self.rollout is not None and self.rollout.records.complete and self._is_due("report", self.report_every_ms):
            self._try("report", self._report, StreamError)

    def say_gone(self) -> None:
        """Say that the server goes, so that callers ask others; the broker may be away, and then silence tells."""
        self._write_figures()
        if self._connected is not None:
            try:
                self._report()
                self._connected[1].publish([write_gone(self.server.name, self.name, self.prefix)])
            except StreamError as error:
                log.warning("ends without a word: %s", error)

    def close(self) -> None:
        """Give the connection up."""
        if self._connected is not None:
            wanted, publisher = self._connected
            self._connected = None
            wanted.close()
            publisher.close()

    def _look(self) -> None:
        if self._connected is None:
            self._connected = self.connect()
        version = self._connected[0].refresh(LOOK_MS)
        if self.rollout is not None:
            if self.rollout.look():
                self._forgive("store")
            if self.rollout.leads:
                return
        if version is not None and version != self._declared:
            self._declared = version
            self.server.want(version)
            self._forgive("store")

    def _load(self) -> None:
        is_other = self.rollout is not None and self.rollout.carry_out(self.get)
        if self.server.load(self.get) or is_other:
            self._due.pop("tell", None)  # callers want to know
            self._due.pop("report", None)

    def _tell(self) -> None:
        if self._connected is not None:
            self._connected[1].publish([write_status(self.status(), self.prefix, self.clock())])

    def _report(self) -> None:
        if self._connected is not None and self.rollout is not None and (records := self.rollout.report()):
            self._connected[1].publish(records)

    def status(self) -> ServerStatus:
        """Say how the server is."""
        figures, serving = self.server.told(), self.server.serving
        declared = "" if self._connected is None else self._connected[0].trouble
        desired = "" if self.rollout is None else self.rollout.trouble
        return ServerStatus(
            model=self.server.name,
            server=self.name,
            region=RegionId(self.region),
            url=self.url,
            version=0 if serving is None or self.server.leaving else serving.version.version,
            sha256=None if serving is None else serving.version.sha256,
            wanted_version=int(figures["wanted_version"]),
            trouble=(self.server.trouble or desired or declared or self._own_trouble)[:1_000],
            figures=figures,
            observed_at=self.clock(),
        )

    @property
    def _own_trouble(self) -> str:
        return self._trouble.get("store", "") or self._trouble.get("broker", "")

    def _write_figures(self) -> None:
        """Leave figures where the agent reads them: they go into the task's reports."""
        if self.metrics is None:
            return
        draft = self.metrics.with_name(f"{self.metrics.name}.draft")
        try:
            draft.write_text(json.dumps(self.server.told()), encoding="utf-8")
            os.replace(draft, self.metrics)
        except OSError as error:
            log.warning("figures are not told: %s", error)

    def _try(self, what: str, do: Callable[[], None], *errors: type[Exception]) -> None:
        """Do something, unless it has failed so lately that it is not worth it yet.

        What nobody expects is logged whole and told as well: a follower that ended would look like one without news.
        """
        now = self.steady()
        if now < self._due.get(f"{what} again", now):
            return
        try:
            do()
        except Exception as error:
            expected = isinstance(error, errors)
            pause = min(MOST_AGAIN_MS, 2 * self._pause.get(what, AGAIN_MS // 2))
            if what not in self._pause:
                words = "%s: what serves goes on; tried again: %s"
                log.warning(words, what, error, exc_info=not expected)
            self._pause[what], self._due[f"{what} again"] = pause, self.steady() + pause
            self._trouble[what] = str(error) if expected else f"{what}: {type(error).__name__}: {error}"
        else:
            self._forgive(what)

    def _forgive(self, what: str) -> None:
        self._pause.pop(what, None)
        self._due.pop(f"{what} again", None)
        self._trouble.pop(what, None)

    def _is_due(self, what: str, every_ms: int) -> bool:
        now = self.steady()
        if now < self._due.get(what, now):
            return False
        self._due[what] = now + every_ms
        return True
