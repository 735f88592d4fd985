"""The client libraries of applications: submit and follow tasks, read and write shared records.

    from thalweg.client import Add, Assign, Client, ReplicaClient

Each name is loaded when it is first asked for: who only submits tasks loads nothing of the replica.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from thalweg.client.async_client import AsyncClient
    from thalweg.client.client import (
        Client,
        ClientError,
        InvalidRequestError,
        Outcome,
        OutcomeState,
        RequestRefusedError,
        WaitTimeoutError,
    )
    from thalweg.client.replica_client import ReplicaClient, ReplicaLag
    from thalweg.conf.settings import KafkaSettings, load_settings
    from thalweg.stack.connection import NoBrokerError, with_broker
    from thalweg.streams.broker.errors import (
        BrokerUnavailableError,
        FenceError,
        MessageTooLargeError,
        NotAcknowledgedError,
        StreamError,
    )
    from thalweg.streams.contract.messages import AssignmentEvent, TaskRequest
    from thalweg.sync.protocol.changes import Add, Assign, ChangeRefusedError, Increment, Lower, Raise, Remove
    from thalweg.sync.protocol.records import KeyRefusedError
    from thalweg.sync.replica.replica import FencedError, NotJoinedError, RecordTooLargeError

__all__ = [
    "Add",
    "Assign",
    "AssignmentEvent",
    "AsyncClient",
    "BrokerUnavailableError",
    "ChangeRefusedError",
    "Client",
    "ClientError",
    "FenceError",
    "FencedError",
    "Increment",
    "InvalidRequestError",
    "KafkaSettings",
    "KeyRefusedError",
    "Lower",
    "MessageTooLargeError",
    "NoBrokerError",
    "NotAcknowledgedError",
    "NotJoinedError",
    "Outcome",
    "OutcomeState",
    "Raise",
    "RecordTooLargeError",
    "Remove",
    "ReplicaClient",
    "ReplicaLag",
    "RequestRefusedError",
    "StreamError",
    "TaskRequest",
    "WaitTimeoutError",
    "load_settings",
    "with_broker",
]

_FROM: Final = {
    "thalweg.client.async_client": ("AsyncClient",),
    "thalweg.client.client": (
        "Client", "ClientError", "InvalidRequestError", "Outcome", "OutcomeState", "RequestRefusedError",
        "WaitTimeoutError",
    ),
    "thalweg.client.replica_client": ("ReplicaClient", "ReplicaLag"),
    "thalweg.conf.settings": ("KafkaSettings", "load_settings"),
    "thalweg.stack.connection": ("NoBrokerError", "with_broker"),
    "thalweg.streams.broker.errors": (
        "BrokerUnavailableError", "FenceError", "MessageTooLargeError", "NotAcknowledgedError", "StreamError",
    ),
    "thalweg.streams.contract.messages": ("AssignmentEvent", "TaskRequest"),
    "thalweg.sync.protocol.changes": ("Add", "Assign", "ChangeRefusedError", "Increment", "Lower", "Raise", "Remove"),
    "thalweg.sync.protocol.records": ("KeyRefusedError",),
    "thalweg.sync.replica.replica": ("FencedError", "NotJoinedError", "RecordTooLargeError"),
}  # fmt: skip
_MODULE_OF: Final = {name: module for module, names in _FROM.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a name of this package where it is written."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    found = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return found
