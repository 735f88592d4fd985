"""The published contract of the Kafka edge: one JSON Schema per message and one AsyncAPI 3.0 document, both generated.

Everything comes from `streams.contract.topics` and `streams.contract.messages`, so what is published is what is
decoded. Unknown fields are allowed everywhere, as the decoder allows them.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from thalweg.streams.contract.messages import MESSAGES
from thalweg.streams.contract.state_messages import StateRecord
from thalweg.streams.contract.topics import CONTRACTS, REPLICA, STATE, TopicContract
from thalweg.sync.protocol.entries import Entry

Document = dict[str, Any]

JSON_SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REGION: Final = "{region}"

_SYNC: Final[Mapping[str, Any]] = {STATE.topic: StateRecord, REPLICA.topic: Entry}
"""The sync plane's messages: its own types have names (stamp, heartbeat) that other messages have, too."""
PUBLISHED: Final[Mapping[str, Any]] = {**MESSAGES, **_SYNC}
"""Message type by topic, for every topic whose values have a schema."""

_CLOUD_EVENTS: Final[Document] = {
    "type": "object",
    "description": "CloudEvents 1.0 in Kafka's binary mode. Written by Thalweg, optional for others.",
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "description": "Derived from content: a repeated event has the same id."},
        "ce_source": {"type": "string", "description": "Job or agent that wrote the event."},
        "ce_type": {"type": "string", "description": "`thalweg.` and the kind of event."},
        "ce_time": {"type": "string", "format": "date-time"},
    },
}
_REFUSED: Final[Document] = {
    "type": "object",
    "description": "Why the record was refused, and where it came from.",
    "properties": {
        "reason": {"type": "string", "description": "What was seen and what is allowed."},
        "rule": {"type": "string", "description": "Rule that refused it."},
        "flow": {"type": "string", "description": "Job that refused it."},
        "topic": {"type": "string"},
        "partition": {"type": "string", "pattern": "^[0-9]+$"},
        "offset": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "required": ["reason", "rule", "flow", "topic", "partition", "offset"],
}


def message_schema(topic: str) -> Document:
    """JSON Schema (draft 2020-12) of a topic's record values, complete in itself."""
    (root,), definitions = msgspec.json.schema_components([PUBLISHED[topic]])
    return {
        "$schema": JSON_SCHEMA_DIALECT,
        "title": message_name(topic),
        **root,
        "$defs": _documented(definitions, [PUBLISHED[topic]]),
    }


def message_name(topic: str) -> str:
    """Name of a topic's message: its type's, or one for a choice of types."""
    return str(getattr(PUBLISHED[topic], "__name__", f"{topic.capitalize()}Entry"))


def asyncapi(prefix: str, version: str) -> Document:
    """Make the AsyncAPI 3.0 document.

    Args:
        prefix: first part of the topics' names.
        version: of the contract, the package's own.
    """
    payloads: dict[str, Document] = {}
    schemas: dict[str, Document] = {}
    for family, place in ((MESSAGES, ""), (_SYNC, "sync.")):
        roots, definitions = msgspec.json.schema_components(
            family.values(), ref_template=f"#/components/schemas/{place}{{name}}"
        )
        payloads |= dict(zip(family, roots, strict=True))
        documented = _documented(definitions, family.values())
        schemas |= {f"{place}{name}": schema for name, schema in documented.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Thalweg",
            "version": version,
            "description": "Topics and messages of the placement plane. Values are JSON; the key is the entity's id. "
            "Unknown fields are kept. What is refused goes to the dead-letter topic with the reason.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "Setting `kafka.bootstrap_servers`.",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092"}},
            }
        },
        "channels": {contract.topic: _channel(contract, prefix) for contract in CONTRACTS},
        "operations": dict(map(_operation, CONTRACTS)),
        "components": {
            "messages": {contract.topic: _message(contract, payloads.get(contract.topic)) for contract in CONTRACTS},
            "messageTraits": {"cloudEvents": {"headers": _CLOUD_EVENTS}},
            "schemas": schemas,
        },
    }


def field_docs(message: type) -> dict[str, str]:
    """Docstrings of a message's fields, by field."""
    return dict(_field_docs(message))


@cache
def _field_docs(message: type) -> tuple[tuple[str, str], ...]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(message))).body
    assert isinstance(definition, ast.ClassDef)
    found: list[tuple[str, str]] = []
    for field, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            found.append((field.target.id, inspect.cleandoc(ast.literal_eval(after.value)).replace("\n", " ")))
    return tuple(found)


def _documented(definitions: dict[str, Document], messages: Iterable[Any]) -> dict[str, Document]:
    """Put the fields' docstrings into the schemas that msgspec makes, in order of their names."""
    types = {struct.__name__: struct for struct in _structs(messages)}
    for name, schema in definitions.items():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
        docs = _field_docs(types[name]) if name in types else ()
        for field, doc in docs:
            if field in schema.get("properties", {}):
                schema["properties"][field] = {"description": doc, **schema["properties"][field]}
        for item, (_, doc) in zip(schema.get("prefixItems", ()), docs, strict=False):
            item["description"] = doc
    return {name: definitions[name] for name in sorted(definitions)}


def _structs(messages: Iterable[Any]) -> set[type]:
    """Every Struct that the messages are made of."""
    found: set[type] = set()
    unread = list(msgspec.inspect.multi_type_info(messages))
    while unread:
        match unread.pop():
            case msgspec.inspect.UnionType(types=parts) | msgspec.inspect.TupleType(item_types=parts):
                unread += parts
            case msgspec.inspect.ListType(item_type=part) | msgspec.inspect.VarTupleType(item_type=part):
                unread.append(part)
            case msgspec.inspect.DictType(value_type=part):
                unread.append(part)
            case msgspec.inspect.StructType(cls=cls, fields=fields) if cls not in found:
                found.add(cls)
                unread += [field.type for field in fields]
    return found


def _channel(contract: TopicContract, prefix: str) -> Document:
    address = f"{prefix}.{contract.topic}" + (f".{_REGION}" if contract.per_region else "")
    config: Document = {}
    for name, value in contract.config().items():
        config[name] = [value] if name == "cleanup.policy" else int(value) if value.isdigit() else value
    channel: Document = {
        "address": address,
        "description": f"{contract.meaning} Written by {contract.writer}; the key is {contract.key}.",
        "messages": {contract.topic: {"$ref": f"#/components/messages/{contract.topic}"}},
        "bindings": {
            "kafka": {"partitions": contract.partitions, "topicConfiguration": config, "bindingVersion": "0.5.0"}
        },
    }
    if contract.per_region:
        channel["parameters"] = {
            "region": {
                "description": "Region with ':' written as '.' and every other character outside [a-zA-Z0-9-] as '_' "
                "and its two hex digits. A new region begins with its first message; its agent "
                "makes its topics, or `thalweg topics --make REGION` for a plain producer."
            }
        }
    return channel


def _operation(contract: TopicContract) -> tuple[str, Document]:
    """What Thalweg itself does with the topic: its jobs send what they write and receive the rest."""
    ours = contract.writer.startswith("jobs/") or contract.writer == "every job"
    action = "send" if ours else "receive"
    return f"{action}{contract.topic.capitalize()}", {
        "action": action,
        "channel": {"$ref": f"#/channels/{contract.topic}"},
        "messages": [{"$ref": f"#/channels/{contract.topic}/messages/{contract.topic}"}],
    }


def _message(contract: TopicContract, payload: Document | None) -> Document:
    message: Document = {
        "name": contract.topic,
        "summary": contract.meaning,
        "traits": [{"$ref": "#/components/messageTraits/cloudEvents"}],
        "bindings": {"kafka": {"key": {"type": "string", "description": contract.key}, "bindingVersion": "0.5.0"}},
    }
    if payload is not None:
        message["payload"] = payload
    elif contract.topic == "deadletter":
        message |= {"headers": _REFUSED, "contentType": "application/octet-stream", "title": "The refused bytes"}
    return message
