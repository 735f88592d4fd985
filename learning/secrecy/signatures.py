"""Ed25519 signatures (RFC 8032) of what participants say; `cryptography` is an extra, imported when first needed."""

import hashlib
import hmac


class SigningKey:
    """A participant's private key."""

    def __init__(self, raw: bytes) -> None:
        """Take 32 bytes.

        Raises:
            ModuleNotFoundError: `cryptography` is not installed (the extra `learning`).
            ValueError: another number of bytes.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.from_private_bytes(raw)

    @property
    def public_key(self) -> str:
        """The public half, in hex."""
        return self._key.public_key().public_bytes_raw().hex()

    def secret(self, purpose: bytes) -> bytes:
        """Return 32 bytes that nobody can tell who has not the key: for one purpose those, for another others."""
        return hmac.new(self._key.private_bytes_raw(), purpose, hashlib.sha256).digest()

    def sign(self, text: bytes) -> bytes:
        """Sign."""
        return self._key.sign(text)


def verify(public_key: str, text: bytes, signature: bytes) -> bool:
    """Tell whether a signature of a text was made with the private half of a public key.

    Raises:
        ModuleNotFoundError: `cryptography` is not installed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True
