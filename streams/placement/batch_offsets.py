"""Where a micro-batch begins and ends, as one number that tells it from every other."""

from typing import TYPE_CHECKING

from thalweg.streams.contract.envelope import content_id

if TYPE_CHECKING:
    import pyarrow as pa


def offsets_digest(batch: "pa.Table") -> int:
    """Tell batches apart by the offsets they hold, below 2**60: a batch that is read again has the same digest."""
    places = batch.select(["topic", "partition", "offset"]).group_by(["topic", "partition"], use_threads=False)
    spans = places.aggregate([("offset", "min"), ("offset", "max"), ("offset", "count")]).to_pylist()
    parts = sorted(
        (span["topic"], span["partition"], span["offset_min"], span["offset_max"], span["offset_count"])
        for span in spans
    )
    return int(content_id(*(value for span in parts for value in span))[:15], 16)
