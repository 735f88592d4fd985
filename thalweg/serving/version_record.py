"""What a region is to serve of a model: one field of a record of the sync plane, read strictly.

All of it is one field, so that no merge of two writes can make a version that nobody has declared.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from thalweg.sync.protocol.stamps import StampError, check_region

PREFIX: Final = "models"
"""Records are models/NAME for all regions, and models/NAME/REGION for one."""
FIELD: Final = "served"
STORED: Final = "models-stored"
"""Records are models-stored/NAME/DIGEST: where the bytes of a version lie that a roll-out may name. Nobody serves by
them."""

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""SHA-256, in hexadecimal digits."""
_Bytes = Annotated[int, msgspec.Meta(ge=1, le=2_000_000_000)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class VersionRecordError(ValueError):
    """A record declares no version that can be served; the text says why."""


class Way(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way in which a version's bytes are kept in the store of payloads."""

    codec: Literal["plain", "zstd", "delta"]
    """As they are, packed, or as what they differ by from those of another version."""
    sha256: Digest
    """Of what lies in the store."""
    size_bytes: _Bytes
    """Of what lies in the store."""
    base: Digest | None = None
    """For `delta`: the digest of the version it differs from."""


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's input or output."""

    name: _Name
    """As the model calls it."""
    datatype: _Name
    """Of the Open Inference Protocol: FP32, INT64, BYTES, …"""
    shape: tuple[Annotated[int, msgspec.Meta(ge=-1)], ...]
    """Length of each axis; -1 where any is allowed."""


class ModelVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One version of a model."""

    version: Annotated[int, msgspec.Meta(ge=1)]
    """Its number; told with every answer."""
    sha256: Digest
    """Of the ONNX file."""
    size_bytes: _Bytes
    """Of the ONNX file."""
    ways: Annotated[tuple[Way, ...], msgspec.Meta(min_length=1, max_length=8)]
    """Where its bytes are; any of them leads to the same."""
    inputs: Annotated[tuple[TensorSpec, ...], msgspec.Meta(min_length=1, max_length=64)]
    """What the model must ask for, or it is not served."""


def read_version(value: Mapping[str, Any]) -> ModelVersion:
    """Read a record's value.

    Raises:
        VersionRecordError: it declares none; names what is wrong.
    """
    if FIELD not in value:
        raise VersionRecordError(f"no field {FIELD!r}: allowed is one that holds all of a version")
    try:
        found = msgspec.convert(value[FIELD], ModelVersion)
    except msgspec.ValidationError as error:
        raise VersionRecordError(str(error)) from error
    for way in found.ways:
        if (way.codec == "delta") != (way.base is not None):
            raise VersionRecordError(f"a way of codec {way.codec}: a base belongs to delta, and to nothing else")
        if way.codec == "plain" and (way.sha256, way.size_bytes) != (found.sha256, found.size_bytes):
            raise VersionRecordError("a plain way holds something else than the version: its digest or size differs")
    return found


def written(version: ModelVersion) -> dict[str, Any]:
    """Write a version as the value of the field."""
    found: dict[str, Any] = msgspec.to_builtins(version)
    return found


def key_of(model: str, region: str | None = None) -> str:
    """Name the record of a model, or the one that a region has for itself.

    Raises:
        VersionRecordError: the model's or the region's name cannot be part of a key.
    """
    if not model or "/" in model or not model.isprintable() or len(model) > 128:
        raise VersionRecordError(f"model {model!r}: allowed are 1 to 128 characters that can be seen, and no slash")
    if region is not None:
        try:
            check_region(region)
        except StampError as error:
            raise VersionRecordError(str(error)) from error
        if "/" in region:
            raise VersionRecordError(f"region {region!r}: allowed is no slash, which parts a record's key")
    return f"{PREFIX}/{model}" if region is None else f"{PREFIX}/{model}/{region}"


def stored_key(model: str, sha256: str = "") -> str:
    """Name the record that says where a version's bytes lie; without a digest, what all of a model's begin with."""
    return f"{STORED}/{model}/{sha256}"
