"""Orders to the plane: sent, and what became of them heard. Whoever may write to the `control` topic may give them."""

import re
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from thalweg.client.client import InvalidRequestError
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord
from thalweg.streams.contract import field_words, finite, order_rules
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.envelope import Envelope, content_id, write_headers
from thalweg.streams.contract.messages import Answers, ControlOrder, OrderAnswer
from thalweg.streams.contract.topics import ANSWERS, CONTROL, topic_name
from thalweg.streams.placement.orders import subject

SOURCE: Final = "/thalweg/operator"
_ENCODER: Final = msgspec.json.Encoder()
_ANSWERS: Final = msgspec.json.Decoder(Answers)


def checked_order(content: Mapping[str, Any]) -> ControlOrder:
    """Make an order.

    Raises:
        InvalidRequestError: a field is missing, unknown, of a wrong type or out of range.
    """
    unknown = sorted(content.keys() - set(ControlOrder.__struct_fields__))
    if unknown:
        raise InvalidRequestError(f"an order has no field {unknown[0]!r}")
    if (wrong := finite.objection(content)) is not None:
        raise InvalidRequestError(wrong)
    try:
        order = msgspec.convert(dict(content), ControlOrder)
        _ENCODER.encode(order)
    except (msgspec.ValidationError, msgspec.EncodeError, UnicodeEncodeError) as error:
        raise InvalidRequestError(field_words.in_words(error, content, ControlOrder)) from error
    if (wrong := order_rules.objection(order)) is not None:
        raise InvalidRequestError(wrong)
    return order


def give_order(kafka: KafkaSettings, order: ControlOrder, now_ms: int, answer_s: float) -> OrderAnswer | None:
    """Send an order, and wait for what becomes of it.

    Args:
        kafka: the broker's settings.
        order: checked.
        now_ms: the moment, by which the answer is known again.
        answer_s: how long to wait for it; 0 does not.

    Returns:
        The answer, or None where none came in time: the broker has the order, and it is obeyed when the job runs.

    Raises:
        BrokerUnavailableError: nobody answers.
        NotAcknowledgedError: the broker did not say that it has it; giving it again is safe.
    """
    prefix, key = kafka.topic_prefix, subject(order)
    order_id = content_id(key, _ENCODER.encode(order), now_ms)
    value = _ENCODER.encode(msgspec.structs.replace(order, order_id=order_id, observed_at=now_ms))
    event = Envelope(event_id=order_id, source=SOURCE, event_type=f"order.{order.order}", time_ms=now_ms)
    record = OutgoingRecord(
        topic=topic_name(CONTROL, prefix),
        key=key.encode(),
        value=value,
        headers=write_headers(event),
        max_bytes=CONTROL.max_message_bytes,
    )
    answers = re.escape(topic_name(ANSWERS, prefix))
    reader = KafkaReader(kafka, pattern=answers, since_ms=now_ms - 2_000, client_id="thalweg-operator")
    try:
        publisher = KafkaPublisher(kafka, client_id="thalweg-operator")
        try:
            publisher.publish([record])
        finally:
            publisher.close()
        return _answer(reader, order_id, answer_s)
    finally:
        reader.close()


def _answer(reader: KafkaReader, order_id: str, answer_s: float) -> OrderAnswer | None:
    deadline = time.monotonic() + answer_s
    while (left := deadline - time.monotonic()) > 0:
        for record in reader.poll(int(min(left, 0.2) * 1_000) + 1):
            try:
                told = decoded(_ANSWERS, record.value).orders
            except UndecodableError:
                continue
            found = next((answer for answer in told if answer.order_id == order_id), None)
            if found is not None:
                return found
    return None
