"""Digests: are two copies the same, and if not, in which few buckets do they differ?

Every record hashes to 64 bits; a bucket's digest is the exclusive or of its records', so one changed record changes it
in constant time, whatever the order. Comparing costs the buckets' digests; repairing costs the buckets that differ.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Sequence

from thalweg.sync.protocol.records import Record, encode_record

# 256 digests are 4 KB of JSON, little enough to publish every few seconds; a bucket of a million records holds 4,000,
# a repair of about a megabyte.
BUCKETS = 256
_PACKED = struct.Struct(f">{BUCKETS}Q")


def bucket_of(key: str) -> int:
    """Return the bucket of a key; the same in every process and language that has CRC-32."""
    return zlib.crc32(key.encode()) % BUCKETS


def record_hash(record: Record) -> int:
    """Return 64 bits over the whole state, its vector included."""
    return encoded_hash(encode_record(record))


def encoded_hash(encoded: bytes) -> int:
    """Return 64 bits over an encoded record."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")


def digests_of(records: Iterable[Record]) -> list[int]:
    """Return the digest of every bucket."""
    ledger = DigestLedger()
    for record in records:
        ledger.put(record.key, record_hash(record))
    return ledger.buckets


class DigestLedger:
    """The digests of a changing set of records."""

    __slots__ = ("_hashes", "buckets")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self._hashes: dict[str, int] = {}

    def put(self, key: str, new_hash: int) -> None:
        """Add a record or replace it."""
        self.buckets[bucket_of(key)] ^= self._hashes.get(key, 0) ^ new_hash
        self._hashes[key] = new_hash

    def drop(self, key: str) -> None:
        """Take a record out; unknown keys are none."""
        self.buckets[bucket_of(key)] ^= self._hashes.pop(key, 0)


def encode_digests(buckets: Sequence[int]) -> str:
    """Return the digests as one text, 16 hexadecimal digits a bucket."""
    return _PACKED.pack(*buckets).hex()


def differing_buckets(mine: Sequence[int], theirs: str) -> list[int]:
    """Return the buckets whose digests differ from the encoded ones, ascending.

    Raises:
        ValueError: The text does not hold `BUCKETS` digests.
    """
    if len(theirs) != 16 * BUCKETS:
        raise ValueError(f"digests of {len(theirs) // 16} buckets cannot be compared; both sides need {BUCKETS}")
    encoded = encode_digests(mine)
    if encoded == theirs:
        return []
    return [b for b in range(BUCKETS) if encoded[16 * b : 16 * b + 16] != theirs[16 * b : 16 * b + 16]]
