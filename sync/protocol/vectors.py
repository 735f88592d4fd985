"""Version vectors: which writes a state contains, as the highest sequence per writing life.

A vector belongs to one record: {"eu@1": 7} says that the state contains every write of eu's life 1 to this record up
to sequence 7. Sequences are dense over all records of a writer, so those of one record have holes; that does not
matter, because a writer's later state always contains its earlier ones.

Vectors are plain dicts that are never changed in place. (Parker et al., "Detection of Mutual Inconsistency in
Distributed Systems", IEEE TSE 1983.)
"""

from collections.abc import Mapping

Vector = dict[str, int]


def covers(vector: Mapping[str, int], actor: str, seq: int) -> bool:
    """Say whether the state contains that write."""
    return vector.get(actor, 0) >= seq


def dominates(left: Mapping[str, int], right: Mapping[str, int]) -> bool:
    """Say whether the left state contains every write of the right one (equal vectors dominate each other)."""
    for actor, seq in right.items():  # noqa: SIM110 - asked twice for every merge; a generator takes twice as long
        if left.get(actor, 0) < seq:
            return False
    return True


def joined(left: Vector, right: Vector) -> Vector:
    """Return the vector that contains exactly what either contains."""
    result = dict(left)
    for actor, seq in right.items():
        if seq > result.get(actor, 0):
            result[actor] = seq
    return result
