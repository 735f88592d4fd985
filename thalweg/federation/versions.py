"""The parameters of a version that a run has made: what the tables say of it, and the store's bytes, checked."""

from thalweg.conf.settings import Settings
from thalweg.federation.connection import placed
from thalweg.learning.vectors.parameters import Vector, from_bytes
from thalweg.query.sql.as_of import AsOf
from thalweg.query.sql.query import TableReader, quote
from thalweg.streams.learning.payloads import PayloadStore


class NoVersionError(Exception):
    """No such version was made."""


def read_version(
    model: str, version: int | None, payloads: str | None, warehouse: str, as_of: AsOf | None
) -> tuple[int, Vector]:
    """Read a version's number and parameters, after checking them against its digest.

    Args:
        model: name of the run.
        version: which; None for the newest.
        payloads: folder or URI of the store of payloads; None for the one beside the tables.
        warehouse: folder or URI of the tables.
        as_of: the moment to read the tables at.

    Raises:
        NoVersionError: the tables know none.
        PayloadError: its bytes are not there, or are others.
        OSError: the store cannot be read.
    """
    with TableReader(warehouse, as_of) as reader:
        wanted = "" if version is None else f" AND version = {version}"
        found = reader.dicts(
            f"SELECT version, sha256, parameters FROM model_versions WHERE model = {quote(model)}{wanted} "
            "ORDER BY version DESC LIMIT 1"
        )
    if not found:
        raise NoVersionError(f"no such version of {model!r} in {warehouse}: thalweg federate history {model}")
    row = found[0]
    place = payloads if payloads is not None else placed(Settings(), warehouse).federate.payloads
    raw = PayloadStore(place).get(row["sha256"])
    return row["version"], from_bytes(raw, len(raw) // 4)[: row["parameters"]]
