"""A new version of a model, published: its bytes into the store of payloads, then the record that regions serve by."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from thalweg.learning.rollout.records import PREFIX, DesiredModel, RolloutRecordError, read_desired, read_wish, wish_key
from thalweg.learning.vectors.parameters import digest
from thalweg.serving.loaded_model import LoadedModel, ModelRefusedError, inputs_of, opened
from thalweg.serving.transfer import TransferError, fetched, ways_of
from thalweg.serving.version_record import (
    FIELD,
    ModelVersion,
    TensorSpec,
    VersionRecordError,
    key_of,
    read_version,
    stored_key,
    written,
)
from thalweg.streams.learning.payloads import PayloadError, PayloadStore
from thalweg.sync.protocol.changes import Assign, Change


class Records(Protocol):
    """A replica of the sync plane, as far as it is needed here (`client.replica_client`)."""

    def read(self, key: str) -> Mapping[str, Any] | None:
        """Return a record's value; None if there is none."""

    def keys(self, prefix: str = "") -> Sequence[str]:
        """Return the keys of all live records that start with the prefix."""

    def put(self, key: str, *changes: Change) -> object:
        """Write."""


class PublicationError(ValueError):
    """A version cannot be published; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was published."""

    key: str
    version: ModelVersion
    before: int
    """Newest number until then, of any region; 0 for none."""


def publish_version(
    model: str,
    raw: bytes,
    records: Records,
    store: PayloadStore,
    *,
    number: int | None = None,
    region: str | None = None,
    other_inputs: bool = False,
) -> Published:
    """Publish a version.

    Args:
        model: name of the model.
        raw: an ONNX file.
        records: a replica that may write.
        store: where bytes lie.
        number: of the version; None takes the one after the newest of any region.
        region: that alone is to serve it; None for all that have no record of their own.
        other_inputs: whether it may ask for other inputs than the version before, which callers of that do not send.

    Raises:
        PublicationError: the file is no model that can be served, the number is not above the newest, its inputs
            are others, or a record that is there cannot be read and no number is given.
        VersionRecordError: the model's name cannot be one.
        OSError: the store does not take it.
    """
    key = key_of(model, region)
    given = number is not None
    before = _declared(records, key, given=given) or _declared(records, key_of(model), given=given)
    newest = _newest(records, model, given=given)
    chosen, inputs = _chosen(newest, number), _inputs(raw, before, other_inputs=other_inputs)
    ways = ways_of(raw, _bytes_of(before, store))
    version = ModelVersion(version=chosen, sha256=digest(raw), size_bytes=len(raw), ways=tuple(ways), inputs=inputs)
    _check_served(version, raw)
    store.put(ways.values())
    records.put(key, Assign(FIELD, written(version)))
    return Published(key=key, version=version, before=newest)


def store_version(
    model: str,
    raw: bytes,
    records: Records,
    store: PayloadStore,
    *,
    number: int | None = None,
    other_inputs: bool = False,
) -> ModelVersion:
    """Put a version's bytes into the store and say where they lie; nothing is declared that anybody serves.

    A roll-out then names it by number and digest.

    Args:
        model: name of the model.
        raw: an ONNX file.
        records: a replica that may write.
        store: where bytes lie: as they are, and by the ways that save something against what edges serve now.
        number: of the version; None takes the one after the newest that was declared, rolled out or stored.
        other_inputs: whether it may ask for other inputs than the version that is declared.

    Raises:
        PublicationError: as for `publish_version`.
        VersionRecordError: the model's name cannot be one.
        OSError: the store does not take it.
    """
    given = number is not None
    before = _declared(records, key_of(model), given=given)
    rolled = _newest_rolled(records, model)
    newest = max(_newest(records, model, given=given), rolled, *(one.version for one in _stored(records, model)), 0)
    chosen, inputs = _chosen(newest, number), _inputs(raw, before, other_inputs=other_inputs)
    ways = ways_of(raw, _bytes_of_served(records, model, store) or _bytes_of(before, store))
    version = ModelVersion(version=chosen, sha256=digest(raw), size_bytes=len(raw), ways=tuple(ways), inputs=inputs)
    _check_served(version, raw)
    store.put(ways.values())
    records.put(stored_key(model, version.sha256), Assign(FIELD, written(version)))
    return version


def _check_served(version: ModelVersion, raw: bytes) -> None:
    """Read the record as a server will, and load what it declares: what servers would refuse is not published."""
    try:
        read_version({FIELD: written(version)})
        LoadedModel(version, raw)
    except (VersionRecordError, ModelRefusedError) as error:
        raise PublicationError(f"no server could serve it: {error}") from error


def _chosen(newest: int, number: int | None) -> int:
    chosen = newest + 1 if number is None else number
    if chosen <= newest:
        raise PublicationError(f"version {chosen}: version {newest} is declared; allowed are numbers above it")
    return chosen


def inputs_told(raw: bytes) -> tuple[TensorSpec, ...]:
    """Say what a model asks for; whoever publishes looks at the file before anything else is looked for.

    Raises:
        PublicationError: the file is no model that can be served.
    """
    try:
        return inputs_of(opened(raw))
    except ModelRefusedError as error:
        raise PublicationError(str(error)) from error


def _inputs(raw: bytes, before: ModelVersion | None, *, other_inputs: bool) -> tuple[TensorSpec, ...]:
    inputs = inputs_told(raw)
    if before is not None and inputs != before.inputs and not other_inputs:
        raise PublicationError(
            f"it asks for other inputs than version {before.version}, which is what callers send: give it another "
            "name, or say that they know (--other-inputs)"
        )
    return inputs


def _newest(records: Records, model: str, *, given: bool) -> int:
    """Return the largest number that is declared anywhere: one number is one version, whoever serves it."""
    of_all = key_of(model)
    keys = [key for key in records.keys(of_all) if key == of_all or key.startswith(f"{of_all}/")]
    return max(
        (found.version for key in keys if (found := _declared(records, key, given=given)) is not None), default=0
    )


def _newest_rolled(records: Records, model: str) -> int:
    """Return the largest number that a roll-out was asked for or is desired of an edge."""
    names = [one.version for wanted in _desired(records, model) for one in (wanted.serve, wanted.beside) if one]
    value = records.read(wish_key(model))
    with suppress(RolloutRecordError):  # nothing was rolled out by it
        names += [read_wish(value).version] if value is not None else []
    return max((int(name) for name in names if name.isascii() and name.isdecimal()), default=0)


def _desired(records: Records, model: str) -> Iterator[DesiredModel]:
    """Yield what is desired of each edge."""
    for key in records.keys(f"{PREFIX}{model}/desired/"):
        value = records.read(key)
        with suppress(RolloutRecordError):  # no edge serves by it
            if value is not None:
                yield read_desired(value)


def _stored(records: Records, model: str) -> list[ModelVersion]:
    """Return the versions whose bytes were stored for roll-outs."""
    found = []
    for key in records.keys(stored_key(model)):
        value = records.read(key)
        with suppress(VersionRecordError):  # it says nothing, and was no number
            found += [read_version(value)] if value is not None else []
    return found


def _bytes_of_served(records: Records, model: str, store: PayloadStore) -> bytes | None:
    """Read the bytes that most edges serve by a roll-out; None where there are none."""
    served = Counter(wanted.serve.sha256 for wanted in _desired(records, model))
    for sha256, _ in served.most_common(1):
        with suppress(PayloadError, OSError):  # then the new ones are written without a difference
            return store.get(sha256)
    return None


def _declared(records: Records, key: str, *, given: bool) -> ModelVersion | None:
    """Read what a record declares; one that cannot be read is passed over only where the number is given."""
    value = records.read(key)
    try:
        return None if value is None else read_version(value)
    except VersionRecordError as error:
        if given:
            return None
        raise PublicationError(
            f"the record {key} cannot be read, so which number comes next is not known: {error}; "
            "say the number (--version), above all that were served"
        ) from error


def _bytes_of(version: ModelVersion | None, store: PayloadStore) -> bytes | None:
    """Read the bytes of what is declared, to write the new ones as a difference; None where they are not there."""
    if version is None:
        return None
    try:
        return fetched(version, store.get, {})[0]
    except (PayloadError, TransferError, OSError):
        return None
