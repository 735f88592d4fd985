"""The version that is tried beside the last good one: loaded, or with the reason why it cannot be."""

from dataclasses import dataclass
from typing import Final

from thalweg.learning.rollout.records import ServedVersion
from thalweg.learning.vectors.parameters import digest
from thalweg.serving.loaded_model import LoadedModel, ModelRefusedError, inputs_of, opened
from thalweg.serving.version_record import ModelVersion, Way

MOST_DIGITS: Final = 9
"""Of a version's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One version beside another."""

    sha256: str
    raw: bytes
    loaded: LoadedModel | None
    """None where it cannot be loaded: then it fails every request that is given to it."""
    trouble: str = ""
    """Why not."""


def declared(wanted: ServedVersion, raw: bytes) -> ModelVersion:
    """Declare what is desired by name and digest as a server does: by number, and with the inputs its bytes have.

    Raises:
        ModelRefusedError: the name is no number, or these are not bytes that can be served.
    """
    name = wanted.version
    if not (name.isascii() and name.isdecimal() and len(name) <= MOST_DIGITS and int(name) > 0):
        raise ModelRefusedError(f"version {name!r}: a model server tells versions by whole numbers from 1")
    if digest(raw) != wanted.sha256:
        raise ModelRefusedError(f"version {name}: its bytes have digest {digest(raw)[:12]}…, not {wanted.sha256[:12]}…")
    plain = Way(codec="plain", sha256=wanted.sha256, size_bytes=len(raw))
    inputs = inputs_of(opened(raw))
    return ModelVersion(version=int(name), sha256=wanted.sha256, size_bytes=len(raw), ways=(plain,), inputs=inputs)


def candidate(wanted: ServedVersion, raw: bytes, serving: ModelVersion) -> Candidate:
    """Load what is to be tried beside what serves; callers send what that asks for, so it must ask for the same."""
    try:
        version = declared(wanted, raw)
        if version.inputs != serving.inputs:
            raise ModelRefusedError(f"version {version.version} asks for other inputs than version {serving.version}")
        return Candidate(sha256=wanted.sha256, raw=raw, loaded=LoadedModel(version, raw))
    except ModelRefusedError as error:
        return Candidate(sha256=wanted.sha256, raw=raw, loaded=None, trouble=str(error))
