"""What a table asks of whoever writes it, and whether we do that: the Delta protocol's table features.

Other tools may switch features on. One that is only listed and not used asks nothing; one that we do not implement is
refused before anything is written, because a commit without it would be wrong in a way that nobody sees.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from thalweg.sync.delta.log_entry import Action

IN_COMMIT_TIMESTAMPS: Final = "delta.enableInCommitTimestamps"

# Features of the writer versions before features had names, in the protocol's order.
_LEGACY: Final = (
    (2, ("appendOnly", "invariants")),
    (3, ("checkConstraints",)),
    (4, ("changeDataFeed", "generatedColumns")),
    (5, ("columnMapping",)),
    (6, ("identityColumns",)),
)


def _on(key: str) -> Callable[[Mapping[str, str], str], bool]:
    return lambda properties, _: properties.get(key, "false").lower() == "true"


def _in_schema(key: str) -> Callable[[Mapping[str, str], str], bool]:
    return lambda _, schema: f'"{key}' in schema


# How to tell that a feature is used. Those that are honoured by whatever we write are never "used" here: appends keep
# `appendOnly`, commits carry `inCommitTimestamp`, checkpoints and vacuum's list are `deltalake`'s.
_USED: Final[Mapping[str, Callable[[Mapping[str, str], str], bool]]] = {
    "appendOnly": _on("delta.appendOnly"),
    "invariants": _in_schema("delta.invariants"),
    "checkConstraints": lambda properties, _: any(key.startswith("delta.constraints.") for key in properties),
    "changeDataFeed": _on("delta.enableChangeDataFeed"),
    "generatedColumns": _in_schema("delta.generationExpression"),
    "columnMapping": lambda properties, _: properties.get("delta.columnMapping.mode", "none") != "none",
    "identityColumns": _in_schema("delta.identity."),
    "inCommitTimestamp": lambda *_: False,
    "timestampNtz": lambda *_: False,
    "vacuumProtocolCheck": lambda *_: False,
    "v2Checkpoint": lambda *_: False,
}
# Harmless where rows are only added: nothing is removed, and a change feed reads added files as insertions.
_FINE_WHEN_ONLY_ADDED: Final = frozenset({"changeDataFeed"})


def refused_feature(protocol: Action, metadata: Action, *, append_only: bool, expires: bool) -> str | None:
    """Name a feature that the table uses and that we would break; None if there is none. Pure.

    Args:
        protocol: the log's `protocol` action.
        metadata: the log's `metaData` action.
        append_only: whether the table's rows are only ever added.
        expires: whether old rows are removed.
    """
    properties: Mapping[str, str] = metadata.get("configuration") or {}
    schema = str(metadata.get("schemaString") or "").replace('\\"', '"')
    for feature in _features(protocol):
        is_used = _USED.get(feature)
        used = is_used is None or is_used(properties, schema)
        fine = append_only and feature in _FINE_WHEN_ONLY_ADDED
        if feature == "appendOnly":
            fine = append_only and not expires
        if used and not fine:
            return feature
    return None


def stamps_commits(metadata: Action) -> bool:
    """Tell whether each commit must carry a timestamp that rises."""
    return str((metadata.get("configuration") or {}).get(IN_COMMIT_TIMESTAMPS, "false")).lower() == "true"


def shape(metadata: Action) -> tuple[object, Sequence[str]]:
    """Give what must not change under a writer: columns, their types, and partitions; comments do not count."""
    return _without_comments(json.loads(metadata["schemaString"])), list(metadata.get("partitionColumns") or [])


def _features(protocol: Action) -> list[str]:
    version = protocol.get("minWriterVersion", 0)
    if version >= 7:
        named = {*(protocol.get("writerFeatures") or ()), *(protocol.get("readerFeatures") or ())}
        return sorted(named)
    return [name for since, names in _LEGACY if version >= since for name in names]


def _without_comments(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: _without_comments(
                {name: text for name, text in value.items() if name != "comment"} if key == "metadata" else value
            )
            for key, value in part.items()
        }
    return [_without_comments(item) for item in part] if isinstance(part, list) else part
