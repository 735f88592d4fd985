"""When a cloud takes this machine away: what its metadata service says, asked beside the agent's rounds.

The three ask alike, a GET to an address that only the machine itself reaches, and answer each in its own way:

- AWS: `spot/instance-action` is not there until two minutes before, then it names an action and its moment
  (EC2 User Guide, "Spot Instance interruption notices"; a token comes first, IMDSv2).
- Google: `instance/preempted` turns TRUE thirty seconds before (Compute Engine, "Preemptible VM instances").
- Azure: `scheduledevents` lists what is planned for machines of a set, spot ones thirty seconds before ("Scheduled
  Events"); events that only interrupt a machine (Freeze, Reboot, Redeploy) do not take it away.
"""

import http.client
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec

from thalweg.sync.clock import Clock

log = logging.getLogger("thalweg.agent")

LOOK_EVERY_S: Final = 5.0
"""As AWS recommends; of Google's thirty seconds it leaves twenty-five."""
TIMEOUT_S: Final = 2.0
"""The service is on the machine's own host and answers in milliseconds, or there is none."""
GOOGLE_LEAVES_MS: Final = 30_000
"""Google says no moment: it is so long after."""
MOST_BYTES: Final = 1_000_000
"""Azure lists events of up to hundreds of machines."""

Cloud = Literal["aws", "gcp", "azure"]
Ask = Callable[[str, str, Mapping[str, str]], str | None]
"""Method, path and headers to what is answered; None where there is no such thing (404)."""


class _Action(msgspec.Struct, frozen=True, kw_only=True):
    time: str


class _Event(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    event_type: str
    resources: Annotated[list[str], msgspec.Meta(max_length=10_000)] = []
    not_before: str = ""


class _Events(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    events: list[_Event] = []


def aws(ask: Ask, now_ms: int) -> int | None:
    """Ask Amazon when the machine will be taken, milliseconds since 1970; None where it will not."""
    token = ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    said = ask("GET", "/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token or ""})
    return None if said is None else _ms(datetime.fromisoformat(msgspec.json.decode(said, type=_Action).time))


def gcp(ask: Ask, now_ms: int) -> int | None:
    """Ask Google the same."""
    said = ask("GET", "/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return now_ms + GOOGLE_LEAVES_MS if said is not None and said.strip() == "TRUE" else None


def azure(ask: Ask, now_ms: int) -> int | None:
    """Ask Microsoft the same; what has begun, which has no moment any more, is now."""
    said = ask("GET", "/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"})
    events = msgspec.json.decode(said, type=_Events).events if said else []
    takes = [event for event in events if event.event_type in ("Preempt", "Terminate")]
    if not takes:
        return None
    name = ask("GET", "/metadata/instance/compute/name?api-version=2021-02-01&format=text", {"Metadata": "true"})
    moments = [
        _ms(parsedate_to_datetime(event.not_before)) if event.not_before else now_ms
        for event in takes
        if name is not None and name.strip() in event.resources
    ]
    return min(moments, default=None)


FORMS: Final[Mapping[Cloud, Callable[[Ask, int], int | None]]] = {"aws": aws, "gcp": gcp, "azure": azure}


def _ms(moment: datetime) -> int:
    """Milliseconds since 1970; what names no zone is UTC, as all three say it."""
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


class SpotWatch:
    """Asks again and again, in a thread of its own: a service that does not answer delays no heartbeat."""

    def __init__(self, cloud: Cloud, address: str, clock: Clock) -> None:
        """Begin with nothing known; `begin` starts the thread.

        Args:
            cloud: whose form of words.
            address: of its metadata service.
            clock: the wall clock, for a notice that names no moment.
        """
        self._cloud: Cloud = cloud
        self._address = address.rstrip("/")
        self._clock = clock
        self._by_ms: int | None = None
        self._silent = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spot notices", daemon=True)

    def begin(self) -> None:
        """Look from now on."""
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._stop.set()

    def by_ms(self) -> int | None:
        """When the machine will be taken away, milliseconds since 1970; None where nothing is said of it."""
        return self._by_ms

    def look(self) -> None:
        """Ask once. A service that does not answer, or not in its form, leaves what was known, and is said once."""
        try:
            found = FORMS[self._cloud](self._ask, self._clock())
        except (OSError, http.client.HTTPException, ValueError, msgspec.MsgspecError) as error:
            if not self._silent:
                log.warning(
                    "whether the cloud takes this machine away is not known: its metadata service did not answer",
                    extra={"fields": {"cloud": self._cloud, "address": self._address, "error": str(error)}},
                )
            self._silent = True
            return
        self._silent = False
        # A moment that is counted from when it was first seen does not move on with every look.
        if found is None or self._by_ms is None or self._cloud != "gcp":
            if found is not None and found != self._by_ms:
                log.warning("the cloud takes this machine away", extra={"fields": {"by_ms": found}})
            self._by_ms = found

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(LOOK_EVERY_S)

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        request = urllib.request.Request(self._address + path, method=method, headers=dict(headers))
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return str(answer.read(MOST_BYTES).decode())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A metadata service sends nobody elsewhere."""

    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
"""Without the proxies of the environment: they would ask their own machine."""
