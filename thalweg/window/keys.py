"""Who asks: anybody, or whoever has a key, for all tenants or for one; and who may act.

A key comes in the header `Authorization: Bearer …`, never in an address or a cookie: another site's page cannot
send it, and no log has it. Secrets are compared by their digests, in the same time whatever they are.
"""

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg.conf.settings import WindowSettings

_SHORTEST: Final = 16
_SCHEME: Final = "bearer "


class WindowSettingsError(Exception):
    """A setting of the window says something that cannot be done; the message says what can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever asks."""

    name: str
    """Of the key; "" without one."""
    tenant: str | None = None
    """Whose tasks may be seen and asked for; None means all."""
    may_act: bool = False


class NoSuchKeyError(Exception):
    """The key that was sent is none of those in the settings."""


class KeyNeededError(Exception):
    """Nothing is told here without a key."""


class Keys:
    """The keys of the settings."""

    def __init__(self, settings: WindowSettings) -> None:
        """Read the secrets.

        Raises:
            WindowSettingsError: one is missing, too short, or there is none where one is needed.
        """
        self._callers: dict[bytes, Caller] = {}
        for name, key in settings.keys.items():
            secret = _secret(name, key.secret.get_secret_value() if key.secret else None, key.secret_file)
            caller = Caller(name=name, tenant=key.tenant, may_act=key.acts)
            if self._callers.setdefault(_digest(secret), caller) is not caller:
                raise WindowSettingsError(f"window.keys.{name}: another key has the same secret")
        self._is_open = is_loopback(settings.host) if settings.open is None else settings.open
        if not self._is_open and not self._callers:
            raise WindowSettingsError(
                f"window.host is {settings.host}, which others reach, and there is no key: name one in window.keys, "
                "or set window.open=true to let everybody read"
            )

    def caller(self, authorization: str | None) -> Caller:
        """Tell who sent a header.

        Raises:
            NoSuchKeyError: the key is unknown.
            KeyNeededError: there was none, and nothing is open.
        """
        if not authorization:
            if self._is_open:
                return Caller(name="")
            raise KeyNeededError("this window is read with a key: Authorization: Bearer SECRET")
        if not authorization.lower().startswith(_SCHEME):
            raise NoSuchKeyError("wanted is: Authorization: Bearer SECRET")
        found, sent = None, _digest(authorization[len(_SCHEME) :].strip())
        for digest, caller in self._callers.items():
            if hmac.compare_digest(digest, sent):
                found = caller
        if found is None:
            raise NoSuchKeyError("this key is none of window.keys")
        return found


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_own_name(header: str, settings: WindowSettings) -> bool:
    """Tell whether a Host header names this window.

    Another site's name that was pointed to loopback does not (DNS rebinding): its page would otherwise read this one.
    """
    host = header.rsplit(":", 1)[0] if not header.endswith("]") else header
    host = host.strip("[]").lower()
    return host in {"localhost", settings.host.lower(), *map(str.lower, settings.names)} or is_loopback(host)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _secret(name: str, given: str | None, file: str | None) -> str:
    where = f"window.keys.{name}"
    if (given is None) == (file is None):
        variable = f"THALWEG_WINDOW__KEYS__{name.upper()}__SECRET"
        raise WindowSettingsError(f"{where}: wanted is one of secret_file and secret (in the environment: {variable})")
    if file is not None:
        try:
            given = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise WindowSettingsError(f"{where}.secret_file {file}: {error}") from error
    assert given is not None
    if not (given.isascii() and given.isprintable()):
        raise WindowSettingsError(f"{where}: the secret holds what no header carries; allowed are signs of ASCII")
    if len(given) < _SHORTEST:
        raise WindowSettingsError(f"{where}: the secret has {len(given)} characters; allowed are {_SHORTEST} and more")
    return given
