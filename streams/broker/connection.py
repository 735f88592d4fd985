"""From settings to what kafka-python's clients take; the one place that knows both vocabularies."""

from collections.abc import Callable
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import CorruptRecordError, KafkaError, KafkaTimeoutError, UnsupportedCodecError

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.home import HomeClient

ISOLATION: Final = "read_committed"
"""Kafka's own default hands out records of transactions that are open or were aborted."""


def connection_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Options shared by kafka-python's producer, consumer and admin client."""
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in kafka.bootstrap_servers.split(",")],
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": kafka.request_timeout_ms,
        "bootstrap_timeout_ms": kafka.request_timeout_ms,
        # kafka-python waits up to 30 s between attempts by default: an agent would sleep through a broker's restart.
        "reconnect_backoff_max_ms": 1_000,
        "kafka_client": HomeClient,
    }
    if kafka.sasl_mechanism is not None:
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
        }
    if kafka.ssl_cafile is not None:
        options["ssl_cafile"] = kafka.ssl_cafile
    if kafka.ssl_certfile is not None:
        options["ssl_certfile"] = kafka.ssl_certfile
    return options


def consumer_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Options of every consumer of ours.

    What a transaction has not committed, or has taken back, was never sent: it must not become a task.
    """
    return connection_options(kafka) | {"isolation_level": ISOLATION}


def is_unreadable(error: BaseException) -> bool:
    """Tell whether a consumer's error speaks of the records, and not of the way to the broker."""
    return isinstance(error, UnsupportedCodecError | CorruptRecordError) or not isinstance(error, KafkaError | OSError)


def tell_retries(producer: KafkaProducer, told: Callable[[BaseException], None]) -> None:
    """Let somebody know why the brokers would not take records that a producer sends again.

    What is given up after its time ends with a time-out, which says nothing of the reason; kafka-python tells that to
    its log alone.
    """
    sender: Any = getattr(producer, "_sender", None)
    judge = getattr(sender, "_dispatch_error", None)
    if judge is None:  # another version of the package, whose reasons stay in its log
        return

    def judge_and_tell(batch: Any, exception: BaseException, partition_response: Any) -> None:
        if not isinstance(exception, KafkaTimeoutError):
            told(exception)
        judge(batch, exception, partition_response)

    sender._dispatch_error = judge_and_tell


def close_producer(producer: KafkaProducer, timeout_s: float) -> None:
    """Close a producer, whatever the broker does; what is not acknowledged within the timeout is given up.

    `close` waits for everything to be sent, and where that fails it raises and leaves the producer open: its thread
    would go on sending. Told to end, the thread fails what is left, and then there is nothing to wait for.
    """
    try:
        producer.close(timeout=timeout_s)
    except KafkaError:
        sender: Any = producer._sender
        sender.force_close()
        sender.join(1.0)
