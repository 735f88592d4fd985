"""Flower's messages as bytes, and what `flwr` keeps behind its public names: the one file that reaches there.

Its own transport sets a message's id and the identity of the process in the same places; the version of `flwr` is
pinned for that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_from_proto, recorddict_from_proto, recorddict_to_proto
from flwr.common.serde_utils import error_to_proto, metadata_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError

APP_FAILED: Final[int] = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
NO_REPLY: Final[int] = ErrorCode.REPLY_MESSAGE_UNAVAILABLE
NOBODY: Final[int] = ErrorCode.NODE_UNAVAILABLE


Config = Mapping[str, bool | float | int | str]
"""What Flower calls the configuration of a node or a run, such as `partition-id`."""


class WireError(ValueError):
    """Bytes are no message of Flower's; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireMessage:
    """A message in two parts: what it says may be large, and the same for many."""

    metadata: bytes
    """All but the content; an error is in it."""
    content: bytes | None = None
    """None where there is an error instead."""


def to_wire(message: Message) -> WireMessage:
    """Write a message; the same message gives the same bytes."""
    content = content_bytes(message.content) if message.has_content() else None
    return WireMessage(metadata=metadata_bytes(message), content=content)


def metadata_bytes(message: Message) -> bytes:
    """Write all of a message but its content."""
    error = error_to_proto(message.error) if message.has_error() else None
    bare = ProtoMessage(metadata=metadata_to_proto(message.metadata), error=error)
    raw: bytes = bare.SerializeToString(deterministic=True)
    return raw


def content_bytes(content: RecordDict) -> bytes:
    """Write what a message says."""
    raw: bytes = recorddict_to_proto(content).SerializeToString(deterministic=True)
    return raw


def content_from(raw: bytes) -> RecordDict:
    """Read it back.

    Raises:
        WireError: it is no such thing.
    """
    try:
        return recorddict_from_proto(ProtoRecordDict.FromString(raw))
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise WireError(f"no content of a message: {error}") from error


def from_wire(raw: WireMessage) -> Message:
    """Read a message back: a copy of its own.

    Raises:
        WireError: it is none.
    """
    try:
        bare = ProtoMessage.FromString(raw.metadata)
        if raw.content is not None:
            bare.content.CopyFrom(ProtoRecordDict.FromString(raw.content))
        return message_from_proto(bare)
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise WireError(f"no message: {error}") from error


def give_id(message: Message, message_id: str) -> None:
    """Give a message its id, which its class lets nobody else set."""
    message.metadata.__dict__["_message_id"] = message_id


def error_reply(message: Message, code: int, reason: str) -> Message:
    """Answer with an error, as Flower's strategies count it."""
    return Message(Error(code=code, reason=reason), reply_to=message)


def be_server_app(run_number: int) -> Run:
    """Let this process be a run's server app: `Message(…)` asks for that, and a process has one identity.

    Returns:
        What Flower knows of the run: its number.
    """
    TaskIdentity.run_id = run_number
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    TaskIdentity.task_id = run_number
    return Run.create_empty(run_number)


def empty_context(run_number: int, node_number: int, node_config: Config, run_config: Config) -> Context:
    """Make what a client app is given beside the message; it keeps its own state there."""
    return Context(run_number, node_number, dict(node_config), RecordDict(), dict(run_config))
