"""Taking in ahead of the batches: whatever the pieces were, a batch gets exactly its own records, each once."""

import json
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest

from tests.unit.streams.telemetry.test_parse import NOW_MS, node, record
from thalweg.streams.broker.range_reader import SCHEMA, RangeReader, Ranges
from thalweg.streams.telemetry.intake import Intake, take_in
from thalweg.streams.telemetry.intake_ahead import IntakeAhead
from thalweg.streams.telemetry.parse import PARSED
from thalweg.streams.telemetry.record_rows import to_records
from thalweg.streams.telemetry.rules import load_rules

RULES = load_rules(Path("conf/rules/telemetry.yaml"), PARSED.names, {"future_limit_ms": 60_000})
TOPIC = "thalweg.telemetry.aws.us-west-2"
GOOD = json.dumps(record(node())).encode()
MIXED = json.dumps(record(node(), node(gpus=-1), node(node_id="n2"))).encode()
take = partial(take_in, rules=RULES, topic_prefix="thalweg")


class Topic:
    """Three partitions in memory, with the two questions that a RangeReader answers."""

    def __init__(self) -> None:
        self.values: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
        self.given = dict.fromkeys(self.values, 0)
        self.is_late = False

    def table(self, ranges: Ranges) -> pa.Table:
        rows = [
            (TOPIC, partition, offset, NOW_MS, None, self.values[partition][offset])
            for (_, partition), (start, end) in ranges.items()
            for offset in range(start, end)
        ]
        columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
        return pa.table(
            [pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
        )

    def read(self, ranges: Ranges, timeout_s: float) -> pa.Table | None:
        self.given.update({partition: end for (_, partition), (_, end) in ranges.items()})
        return None if self.is_late else self.table(ranges)

    def arrived(self, after: Mapping[tuple[str, int], int]) -> pa.Table:
        return self.table(
            {
                (TOPIC, partition): (max(self.given[partition], after.get((TOPIC, partition), 0)), len(values))
                for partition, values in self.values.items()
            }
        )


def contents(intake: Intake) -> tuple[list[str], list[str], list[str]]:
    history = sorted(str(row) for row in intake.history.to_pylist())
    return history, sorted(str(row) for row in intake.quarantine.to_pylist()), sorted(map(str, intake.refused))


@pytest.mark.parametrize("seed", range(40))
def test_pieces_and_batches_in_any_order_give_what_the_batch_alone_gives(seed: int) -> None:
    chance = random.Random(seed)
    topic = Topic()
    ahead = IntakeAhead(cast(RangeReader, topic), take)
    starts = dict.fromkeys(topic.values, 0)
    batch: Ranges = {}
    for _ in range(60):
        what = chance.choice(["send", "send", "step", "batch", "again", "spark"])
        if what == "send":
            topic.values[chance.randrange(3)] += chance.choices([GOOD, MIXED, b"not json"], k=chance.randint(1, 4))
        elif what == "step":
            ahead.step()
        else:
            if what != "again":
                ends = {partition: chance.randint(starts[partition], len(v)) for partition, v in topic.values.items()}
                batch = {(TOPIC, p): (starts[p], end) for p, end in ends.items() if end > starts[p]}
                starts |= ends
            topic.is_late = what == "spark"
            taken = ahead.read(batch, 0)
            topic.is_late = False
            if what == "spark":
                assert taken is None
                continue
            assert taken is not None
            intake, records = taken
            assert records.num_rows == sum(end - start for start, end in batch.values())
            assert contents(intake) == contents(take(to_records(topic.table(batch))))


def test_what_was_taken_in_ahead_is_not_taken_in_again() -> None:
    topic = Topic()
    sizes: list[int] = []

    def counting(records: pa.Table) -> Intake:
        sizes.append(records.num_rows)
        return take(records)

    ahead = IntakeAhead(cast(RangeReader, topic), counting)
    topic.values[0] += [GOOD] * 7
    ahead.step()
    topic.values[0] += [GOOD] * 2
    for end in (5, 9):
        assert ahead.read({(TOPIC, 0): (0 if end == 5 else 5, end)}, 0) is not None
    assert sizes == [7, 2]
