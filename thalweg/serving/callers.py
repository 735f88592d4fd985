"""Who may ask a model: anybody, where that is meant, or whoever has a key."""

from typing import Final

from thalweg.conf.bearer_keys import BearerKeys, KeyNeededError, KeySecretError, is_loopback
from thalweg.conf.settings import ServingSettings

EVERYBODY: Final = ""


class ServingSettingsError(ValueError):
    """A setting of model servers says something that cannot be done; the text says what can."""


class ModelCallers:
    """The keys of the settings."""

    def __init__(self, settings: ServingSettings, host: str) -> None:
        """Read the secrets.

        Args:
            settings: of model servers.
            host: address to bind.

        Raises:
            ServingSettingsError: a secret cannot be used, or there is none where one is needed.
        """
        self._keys: BearerKeys[str] = BearerKeys("serving.keys")
        try:
            for name, key in settings.keys.items():
                secret = key.secret.get_secret_value() if key.secret else None
                self._keys.add(name, name, secret=secret, file=key.secret_file)
        except KeySecretError as error:
            raise ServingSettingsError(str(error)) from error
        self._is_open = is_loopback(host) if settings.open is None else settings.open
        if not self._is_open and not self._keys:
            raise ServingSettingsError(
                f"--host {host} is an address that others reach, and there is no key: name one in serving.keys, or "
                "set serving.open=true to let everybody ask"
            )

    def check(self, authorization: str | None) -> str:
        """Return the name of the caller's key; `EVERYBODY` without one.

        Raises:
            NoSuchKeyError: the key is unknown.
            KeyNeededError: there was none, and not everybody may ask.
        """
        if authorization:
            return self._keys.holder(authorization)
        if self._is_open:
            return EVERYBODY
        raise KeyNeededError("this model is asked with a key: Authorization: Bearer SECRET")
