"""Digests of a set of records tell what is in it, whatever way it came to be so."""

from hypothesis import given
from hypothesis import strategies as st

from thalweg.sync.protocol.digests import DigestLedger

KEYS = st.sampled_from(["a", "b", "c", "é", "a longer key"])
STEPS = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.integers(1, 2**64 - 1))), max_size=20)


@given(STEPS)
def test_after_any_puts_and_drops_they_are_those_of_what_is_left(steps: list[tuple[str, int | None]]) -> None:
    changing, held = DigestLedger(), dict[str, int]()
    for key, new_hash in steps:
        if new_hash is None:
            changing.drop(key)
            held.pop(key, None)
        else:
            changing.put(key, new_hash)
            held[key] = new_hash
    anew = DigestLedger()
    for key, its_hash in held.items():
        anew.put(key, its_hash)
    assert changing.buckets == anew.buckets
    for key in held:
        changing.drop(key)
    assert not any(changing.buckets)
