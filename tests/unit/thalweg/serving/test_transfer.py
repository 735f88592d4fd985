"""Models on their way: whatever way is taken, the bytes are those that were declared, or nothing."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.thalweg.serving.models import spec
from thalweg.learning.vectors.parameters import digest
from thalweg.serving.transfer import PAYS, TransferError, fetched, ways_of
from thalweg.serving.version_record import ModelVersion, Way

REPEATED = st.builds(lambda one, times: one * times, st.binary(min_size=1, max_size=40), st.integers(1, 200))
BYTES = st.binary(min_size=1, max_size=2_000) | REPEATED


def declared(raw: bytes, base: bytes | None = None) -> tuple[ModelVersion, dict[str, bytes]]:
    ways = ways_of(raw, base)
    version = ModelVersion(version=1, sha256=digest(raw), size_bytes=len(raw), ways=tuple(ways), inputs=(spec(),))
    return version, {digest(content): content for content in ways.values()}


@given(BYTES, st.none() | BYTES, st.booleans())
def test_every_way_leads_to_the_declared_bytes(raw: bytes, base: bytes | None, has_base: bool) -> None:
    version, store = declared(raw, base)
    kept = {digest(base): base} if base is not None and has_base else {}
    found, transferred = fetched(version, store.__getitem__, kept)
    assert found == raw
    reachable = [way.size_bytes for way in version.ways if way.base is None or way.base in kept]
    assert transferred == (0 if raw in kept.values() else min(reachable))
    sizes = [way.size_bytes for way in version.ways]
    saved = all(after <= PAYS * before for before, after in pairwise(sizes))
    assert saved, "a way that saves nothing beside a simpler one"


def test_a_version_that_differs_little_is_sent_as_what_it_differs_by() -> None:
    base = b"".join(digest(bytes(number)).encode() for number in range(600))  # zstd finds little in it
    raw = base[:20_000] + b"another tree" + base[20_000:]
    version, store = declared(raw, base)
    assert [way.codec for way in version.ways][-1] == "delta"
    found, transferred = fetched(version, store.__getitem__, {digest(base): base})
    assert (found, transferred < len(raw) / 100) == (raw, True)


@given(BYTES, BYTES, st.data())
def test_what_is_not_the_declared_bytes_is_refused(raw: bytes, base: bytes, data: st.DataObject) -> None:
    version, store = declared(raw, base)
    way = min(version.ways, key=lambda one: one.size_bytes)
    content = bytearray(store[way.sha256])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    kept = {digest(base): base}
    if digest(raw) in kept:
        return
    try:
        found, _ = fetched(version, lambda _: bytes(content), kept)
    except TransferError:
        return
    assert found == raw, "a damage that zstd does not mind, as of a checksum's flag"


def test_a_difference_to_what_is_not_here_leads_nowhere() -> None:
    raw = b"b" * 3_000 + b"x"
    of_base = Way(codec="delta", sha256="1" * 64, size_bytes=9, base="2" * 64)
    version = ModelVersion(version=1, sha256=digest(raw), size_bytes=len(raw), ways=(of_base,), inputs=(spec(),))
    with pytest.raises(TransferError, match="only as a difference"):
        fetched(version, {}.__getitem__, {digest(raw[1:]): raw[1:]})
