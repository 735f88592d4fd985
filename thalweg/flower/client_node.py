"""A participant's side without the way to it: a client app, its context, and a reply to each message."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from thalweg.flower.numbers import number_of
from thalweg.flower.wire import (
    APP_FAILED,
    Config,
    WireMessage,
    content_bytes,
    content_from,
    empty_context,
    error_reply,
    from_wire,
    to_wire,
)


class ClientNode:
    """One participant's client app. For one thread."""

    def __init__(
        self,
        run: str,
        name: str,
        app: ClientApp,
        *,
        node_config: Config | None = None,
        run_config: Config | None = None,
    ) -> None:
        """Prepare.

        Args:
            run: its name.
            name: of the participant.
            app: Flower's.
            node_config: given to the app in its context.
            run_config: the same.
        """
        self.name = name
        self._app = app
        self._context: Context = empty_context(
            number_of(run), number_of(run, name), node_config or {}, run_config or {}
        )

    def answer(self, asked: WireMessage) -> WireMessage:
        """Let the app answer a message; what it raises is an error in the reply, as with Flower's own nodes.

        Raises:
            WireError: what was asked is no message.
        """
        message = from_wire(asked)
        try:
            reply = self._app(message, self._context)
            return to_wire(_replying(reply, message))
        except Exception as error:
            return to_wire(error_reply(message, APP_FAILED, f"{type(error).__name__}: {error}"))

    def state(self) -> bytes:
        """Write what the app has put into its context."""
        return content_bytes(self._context.state)

    def restore(self, state: bytes) -> None:
        """Put it back.

        Raises:
            WireError: it is no such thing.
        """
        self._context.state = content_from(state)


def _replying(reply: object, message: Message) -> Message:
    if not isinstance(reply, Message) or reply.metadata.reply_to_message_id != message.metadata.message_id:
        raise TypeError(f"the client app gave {type(reply).__name__}; allowed is Message(…, reply_to=message)")
    return reply
