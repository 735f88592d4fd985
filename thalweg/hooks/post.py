"""Send one event to one web address: signed, to an address that may be asked, without following anybody elsewhere."""

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

SIGNATURE: Final = "Thalweg-Signature"
EVENT_ID: Final = "Thalweg-Event-Id"
_METADATA: Final = tuple(
    map(
        ipaddress.ip_address,
        # Where clouds answer with credentials and are not link-local: Alibaba, Oracle, and AWS by IPv6.
        ("100.100.100.200", "192.0.0.192", "fd00:ec2::254"),
    )
)
_ANSWER_BYTES: Final = 4_096
"""Of an answer so much is read, and thrown away."""


class HookRefusedError(Exception):
    """An address is none that an event may be sent to."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of one attempt."""

    done: bool
    again: bool
    """Whether another attempt may do better."""
    words: str


def signature(secret: bytes, body: bytes) -> str:
    """Sign a body: who shares the secret makes the same of what it received, and compares (RFC 2104, SHA-256)."""
    return f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"


def objection(address: str, *, allow_metadata: bool) -> str | None:
    """Say why an IP address is not sent to; None where it is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    plain = getattr(ip, "ipv4_mapped", None) or ip
    if plain.is_multicast or plain.is_unspecified:
        return f"{address} is no address of one machine"
    if not allow_metadata and (plain.is_link_local or plain in _METADATA):
        return f"{address} is where clouds answer with credentials; hooks.allow_metadata_addresses allows it"
    return None


def addresses_of(host: str, port: int, *, allow_metadata: bool) -> list[str]:
    """Look a host up.

    Raises:
        HookRefusedError: one of its addresses may not be sent to.
        OSError: it is not known.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        if (wrong := objection(address, allow_metadata=allow_metadata)) is not None:
            raise HookRefusedError(f"{host}: {wrong}")
    return list(dict.fromkeys(found))


def check_url(url: str) -> None:
    """Look whether a setting is a web address.

    Raises:
        HookRefusedError: it is none.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or port == -1:
        raise HookRefusedError(f"hooks.urls: {url!r}: wanted is as in https://example.org/hooks/thalweg")


def post(
    url: str, body: bytes, event_id: str, secret: bytes | None, *, timeout_s: float, allow_metadata: bool
) -> Delivery:
    """Send an event once. Answers from 200 to 299 take it; of the others some may do better another time."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    headers = {"Content-Type": "application/json", EVENT_ID: event_id, "User-Agent": "thalweg-hooks"}
    if secret is not None:
        headers[SIGNATURE] = signature(secret, body)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        host = str(parts.hostname)
        addresses = addresses_of(host, port, allow_metadata=allow_metadata)
        connection = _Pinned(host, port, addresses, timeout_s, secure=parts.scheme == "https")
        try:
            connection.request("POST", target, body=body, headers=headers)
            answer = connection.getresponse()
            answer.read(_ANSWER_BYTES)
        finally:
            connection.close()
    except HookRefusedError as error:
        return Delivery(done=False, again=False, words=str(error))
    except (OSError, http.client.HTTPException) as error:
        return Delivery(done=False, again=True, words=f"{type(error).__name__}: {error}")
    done = 200 <= answer.status < 300
    again = answer.status >= 500 or answer.status in (408, 425, 429)
    return Delivery(done=done, again=again and not done, words=f"answer {answer.status} {answer.reason}")


class _Pinned(http.client.HTTPConnection):
    """Connects to the addresses that were looked at, whatever the name means a moment later."""

    def __init__(self, host: str, port: int, addresses: Sequence[str], timeout_s: float, *, secure: bool) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._addresses = addresses
        self._secure = secure

    def connect(self) -> None:
        """Open the connection to the first address that answers."""
        failed: OSError | None = None
        for address in self._addresses:
            try:
                plain = socket.create_connection((address, self.port), self.timeout)
                break
            except OSError as error:
                failed = error
        else:
            raise failed or OSError("the name has no address")
        context = ssl.create_default_context() if self._secure else None
        self.sock = plain if context is None else context.wrap_socket(plain, server_hostname=self.host)
