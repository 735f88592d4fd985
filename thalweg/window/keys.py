"""Who asks the window: anybody, or whoever has a key, for all tenants or for one; and who may act."""

import re
from dataclasses import dataclass
from typing import Final

from thalweg.conf.bearer_keys import BearerKeys, KeyNeededError, KeySecretError, is_loopback
from thalweg.conf.settings import WindowSettings

_HOST: Final = re.compile(r"(\[[^\[\]]*\]|[^\[\]:@]*)(?::\d+)?")
"""A Host header: a name or address, one of IPv6 in brackets, and perhaps a port."""


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


class Keys:
    """The keys of the settings."""

    def __init__(self, settings: WindowSettings) -> None:
        """Read the secrets.

        Raises:
            WindowSettingsError: one is missing, too short, or there is none where one is needed.
        """
        self._keys: BearerKeys[Caller] = BearerKeys("window.keys")
        for name, key in settings.keys.items():
            caller = Caller(name=name, tenant=key.tenant, may_act=key.acts)
            secret = key.secret.get_secret_value() if key.secret else None
            try:
                self._keys.add(name, caller, secret=secret, file=key.secret_file)
            except KeySecretError as error:
                raise WindowSettingsError(str(error)) from error
        self._is_open = is_loopback(settings.host) if settings.open is None else settings.open
        if not self._is_open and not self._keys:
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
        if authorization:
            return self._keys.holder(authorization)
        if self._is_open:
            return Caller(name="")
        raise KeyNeededError("this window is read with a key: Authorization: Bearer SECRET")


def is_own_name(header: str, settings: WindowSettings) -> bool:
    """Tell whether a Host header names this window.

    Another site's name that was pointed to loopback does not (DNS rebinding): its page would otherwise read this one.
    """
    named = _HOST.fullmatch(header)
    host = named[1].strip("[]").lower() if named else ""
    return host in {"localhost", settings.host.lower(), *map(str.lower, settings.names)} or is_loopback(host)
