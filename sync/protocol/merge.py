"""Merge: two states of a record become the one that contains both.

Pure, commutative, associative, idempotent. The same function runs in the replicate job on the driver, in its Spark
tasks, in every regional replica, in the simulator and in the property tests.
"""

from thalweg.sync.protocol.policies import joined_counters, joined_last, joined_maxima, joined_minima, joined_sets
from thalweg.sync.protocol.records import Record
from thalweg.sync.protocol.vectors import dominates, joined


def merge(left: Record | None, right: Record) -> Record:
    """Return the join; the very same object as an argument when that argument already contains the other.

    A vector that contains the other's is a state that contains the other's, so the field joins run for concurrent
    states only.
    """
    if left is None or left is right or dominates(right.vector, left.vector):
        return right
    if dominates(left.vector, right.vector):
        return left
    return merged_fields(left, right)


def merged_fields(left: Record, right: Record) -> Record:
    """Join field by field, which gives the same as `merge` for any two states of one key."""
    deleted = max(left.deleted, right.deleted)
    return Record(
        key=left.key,
        written=max(left.written, right.written),
        deleted=deleted,
        version=max(left.version, right.version),
        vector=joined(left.vector, right.vector),
        last=joined_last(left.last, right.last, deleted),
        maxima=joined_maxima(left.maxima, right.maxima, deleted),
        minima=joined_minima(left.minima, right.minima, deleted),
        counters=joined_counters(left.counters, right.counters, deleted),
        sets=joined_sets(left.sets, right.sets, left.vector, right.vector, deleted),
    )
