"""Keys of our servers: a secret in the header `Authorization: Bearer …`, never in an address or a cookie.

Another site's page cannot send it, and no log has it. Secrets are compared by their digests, in the same time whatever
they are.
"""

import hashlib
import hmac
import ipaddress
from pathlib import Path
from typing import Final, Generic, TypeVar

_SHORTEST: Final = 16
_SCHEME: Final = "bearer "

Holder = TypeVar("Holder")


class KeySecretError(ValueError):
    """A key's secret cannot be used; the text says which and why."""


class NoSuchKeyError(Exception):
    """The key that was sent is none of those in the settings."""


class KeyNeededError(Exception):
    """Nothing is told here without a key."""


class BearerKeys(Generic[Holder]):
    """Who holds which secret."""

    def __init__(self, setting: str) -> None:
        """Begin with none.

        Args:
            setting: that names the keys, for words.
        """
        self._setting = setting
        self._holders: dict[bytes, Holder] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._holders)

    def add(self, name: str, holder: Holder, *, secret: str | None, file: str | None) -> None:
        """Add a key.

        Args:
            name: of the key.
            holder: whoever sends it.
            secret: itself, or None.
            file: with it, or None.

        Raises:
            KeySecretError: not one of both is there, or it cannot be sent, is too short or another key's.
        """
        where = f"{self._setting}.{name}"
        found = _digest(_secret(where, secret, file))
        if found in self._holders:
            raise KeySecretError(f"{where}: another key has the same secret")
        self._holders[found] = holder

    def holder(self, authorization: str) -> Holder:
        """Tell who sent a header.

        Raises:
            NoSuchKeyError: it holds none of these keys.
        """
        if not authorization.lower().startswith(_SCHEME):
            raise NoSuchKeyError("wanted is: Authorization: Bearer SECRET")
        found, sent = None, _digest(authorization[len(_SCHEME) :].strip())
        for digest, holder in self._holders.items():
            if hmac.compare_digest(digest, sent):
                found = holder
        if found is None:
            raise NoSuchKeyError(f"this key is none of {self._setting}")
        return found


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _secret(where: str, given: str | None, file: str | None) -> str:
    if (given is None) == (file is None):
        variable = f"THALWEG_{where.upper().replace('.', '__')}__SECRET"
        raise KeySecretError(f"{where}: wanted is one of secret_file and secret (in the environment: {variable})")
    if file is not None:
        try:
            given = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KeySecretError(f"{where}.secret_file {file}: {error}") from error
    assert given is not None
    if not (given.isascii() and given.isprintable()):
        raise KeySecretError(f"{where}: the secret holds what no header carries; allowed are signs of ASCII")
    if len(given) < _SHORTEST:
        raise KeySecretError(f"{where}: the secret has {len(given)} characters; allowed are {_SHORTEST} and more")
    return given
