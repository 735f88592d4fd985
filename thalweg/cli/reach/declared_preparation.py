"""How data are prepared before they leave a region: as a file says, or a record of the sync plane."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.conf.settings import KafkaSettings
from thalweg.edge.declaration import Declaration, DeclarationError, read_declaration
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.contract.topics import REPLICA, topic_name
from thalweg.streams.replication.newest_records import newest_records


class NoDeclarationError(Exception):
    """There is no record that declares it; the text says what to do."""


def declared_in_file(file: Path) -> Declaration:
    """Read a declaration from a JSON file: a record's value, or the whole record.

    Raises:
        DeclarationError: it is none.
    """
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DeclarationError(f"{file}: {error}; wanted is JSON") from error
    if not isinstance(value, dict):
        raise DeclarationError(f"{file}: wanted is a JSON object with revision, window_s, …")
    if value.keys() == {"key", "value"} and isinstance(value["value"], dict):
        value = value["value"]  # a whole record, as it is written to the plane
    return _declared(str(file), value)


def _declared(where: str, value: Mapping[str, Any]) -> Declaration:
    try:
        return read_declaration(value)
    except DeclarationError as error:
        raise DeclarationError(f"{where}: {error}") from error


def declared_in_record(key: str, region: str | None, kafka: KafkaSettings) -> tuple[str, Declaration]:
    """Read the region's own record, or that of all; return its key, too.

    Raises:
        NoDeclarationError: there is no such record.
        DeclarationError: it declares nothing that can be carried out.
        BrokerUnavailableError: nobody answers.
    """
    keys = [key] if region is None else [f"{key}/{region}", key]
    ensure_topics(kafka, [], [REPLICA])
    with KafkaReader(kafka, topics=(topic_name(REPLICA, kafka.topic_prefix),), client_id="thalweg-edge") as reader:
        found = newest_records(reader, keys)
    for one in keys:
        if one in found:
            return one, _declared(f"record {one}", found[one])
    raise NoDeclarationError(f"there is no record {' nor '.join(keys)}: write one (docs/how-to/learning.md)")
