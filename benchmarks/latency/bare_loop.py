"""The floor of `bench latency`: Kafka to the driver to Kafka with Spark Structured Streaming, no plan, no ledger.

It reads the same topics with the same source options and session settings as jobs/place, and publishes one event a
request with the same publisher. What jobs/place takes longer is what placing and remembering costs.
"""

import re
from typing import TYPE_CHECKING, Final

import msgspec

from thalweg.conf.settings import Settings
from thalweg.jobs.microbatch.reading import collect
from thalweg.jobs.runtime.job import Flow, Stop, checkpoint_for, job_main, spark_session
from thalweg.scheduling.ids import RegionId
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord, outgoing
from thalweg.streams.broker.sources import read_pattern
from thalweg.streams.contract.envelope import Envelope
from thalweg.streams.contract.messages import AssignmentEvent, TaskRequest
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, STATUS, topic_name, topic_pattern

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FLOW: Final = Flow(name="bare_loop", reads_topics=("requests", "status"), writes_topics=("assignments",))
REGION: Final = RegionId("bare")


def run(settings: Settings) -> None:
    """Echo every request as an assignment until asked to stop."""
    stop = Stop().on_signals()
    decoder = msgspec.json.Decoder(TaskRequest)
    prefix = settings.kafka.topic_prefix
    requests = topic_name(REQUESTS, prefix)
    with spark_session("bare-loop", settings) as spark, KafkaPublisher(settings.kafka) as publisher:

        def echo(batch: "DataFrame", _batch_id: int) -> None:
            received = collect(batch)
            publisher.publish(
                [
                    _event(decoder.decode(value), prefix)
                    for topic, value in zip(
                        received.column("topic").to_pylist(), received.column("value").to_pylist(), strict=True
                    )
                    if topic == requests
                ]
            )

        query = (
            read_pattern(
                spark,
                settings.kafka,
                f"{re.escape(requests)}|{topic_pattern(STATUS, prefix)}",
                max_records_per_batch=settings.place.max_records_per_batch,
            )
            .writeStream.queryName(FLOW.name)
            .option("checkpointLocation", checkpoint_for(settings, FLOW))
            .trigger(processingTime=f"{settings.place.trigger_ms} milliseconds")
            .foreachBatch(echo)
            .start()
        )
        while query.isActive and not stop.wait(0.5):
            pass
        query.stop()


def _event(request: TaskRequest, prefix: str) -> OutgoingRecord:
    event = AssignmentEvent(
        event_id=request.task_id,
        type="assign",
        task_id=request.task_id,
        epoch=1,
        region=REGION,
        requested_at=request.observed_at,
    )
    envelope = Envelope(event_id=request.task_id, source="/bare", event_type="assignment.assign", time_ms=0)
    return outgoing(ASSIGNMENTS, prefix, event, key=request.task_id, region=REGION, event=envelope)


if __name__ == "__main__":
    job_main(run, __doc__ or "")
