"""Cases of the protocol worked out, for implementations in other languages: what goes in, and what must come out.

Written to docs/reference/sync-cases.json, where a change of any result shows as a change of the file. The forms are
those of the wire: whoever reads `state.<region>` or `replica` reads the same.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from thalweg.sync.centre.key_merge import changed_value
from thalweg.sync.protocol.changes import (
    Add,
    Assign,
    Change,
    Delete,
    Increment,
    Lower,
    Raise,
    Remove,
    changed_fields,
    changed_record,
    changes_from_value,
    is_delete,
)
from thalweg.sync.protocol.conflicts import Write, conflict
from thalweg.sync.protocol.digests import bucket_of, digests_of, encode_digests, record_hash
from thalweg.sync.protocol.merge import merge
from thalweg.sync.protocol.policies import MergePolicy
from thalweg.sync.protocol.records import Record, encode_record, view
from thalweg.sync.protocol.stamps import Hlc, admission, observed, tick

EU: Final = "eu@1700000000000"
US: Final = "us@1700000000001"
NOW_MS: Final = 1_764_000_000_000
KEY: Final = "dataset/bilder äöü ✓"
"""Keys are UTF-8, also where they are hashed."""

Made = tuple[Record, Write]


def cases() -> dict[str, Any]:
    """Work all of them out, as JSON has them."""
    made: dict[str, Any] = {
        "changes": _changes(),
        "plain_values": _plain_values(),
        "merges": _merges(),
        "conflicts": _conflicts(),
        "clock": _clock(),
        "admission": _admission(),
        "order_of_stamps": [list(at) for at in sorted(_STAMPS)],
        "digests": _digests(),
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    return plain


def _write(base: Record | None, changes: Sequence[Change], actor: str, seq: int, at: Hlc, key: str = KEY) -> Made:
    record = changed_record(key, base, changes, actor, seq, at)
    changed = changed_fields(changes)
    value = None if is_delete(changes) else changed_value(record, changed)
    return record, Write(actor, seq, at, record.vector, changed, value, is_delete(changes))


def _at(ms: int, region: str = "eu", counter: int = 0) -> Hlc:
    return Hlc(NOW_MS + ms, counter, region)


def _first() -> Record:
    changes = (Assign("owner", "anna"), Raise("size_gb", 10), Lower("price", 2.5), Increment("reads", 3))
    record, _ = _write(None, (*changes, Add("copies", ("eu", "us"))), EU, 1, _at(0))
    return record


_STEPS: Final[Sequence[tuple[str, Sequence[Change]]]] = (
    ("the last assignment stands", (Assign("owner", {"name": "ben", "since": [1, 2.5, None, True]}),)),
    ("a larger number is stated anew with one's own stamp", (Raise("size_gb", 12.0),)),
    ("a smaller number does not lower a maximum", (Raise("size_gb", 4),)),
    ("a smaller number lowers a minimum", (Lower("price", 1.25),)),
    ("who counts goes on from its own total, down as well", (Increment("reads", -5),)),
    ("an addition replaces those it has seen", (Add("copies", ("us", "ap")),)),
    ("a removal takes what its writer sees", (Remove("copies", ("eu",)),)),
    ("a set without elements is absent", (Remove("copies", ("eu", "us")),)),
    ("several changes are one write", (Assign("owner", "cleo"), Increment("reads"))),
    ("a delete leaves stamps and vector alone", (Delete(),)),
)


def _changes() -> list[dict[str, Any]]:
    """What a writer makes of the state that it sees."""
    found = []
    for name, changes in _STEPS:
        for actor, seq, region in ((EU, 2, "eu"), (US, 7, "us")):
            after, write = _write(_first(), changes, actor, seq, _at(5, region))
            found.append(
                {
                    "name": name,
                    "base": _first(),
                    "changes": changes,
                    "actor": actor,
                    "seq": seq,
                    "at": write.at,
                    "changed": write.changed,
                    "deletes": write.deletes,
                    "record": after,
                    "reads": view(after),
                }
            )
    return found


_VALUES: Final[Sequence[tuple[Any, dict[str, MergePolicy]]]] = (
    ({"owner": "anna", "tags": [1, 2]}, {}),
    ({"copies": ["eu"], "reads": 2}, {"copies": MergePolicy.ADD_WINS_SET, "reads": MergePolicy.COUNTER}),
    ({"size_gb": 3, "price": 0.5}, {"size_gb": MergePolicy.MAX, "price": MergePolicy.MIN}),
    ("anything that is no object", {}),
)


def _plain_values() -> list[dict[str, Any]]:
    """What a plain producer's value means."""
    return [
        {"value": value, "policies": policies, "changes": changes_from_value(value, policies)}
        for value, policies in _VALUES
    ]


def _pairs() -> list[tuple[str, Made, Made]]:
    """Two writes each, of writers that had seen the first state and not each other."""
    base = _first()

    def both(name: str, eu: Sequence[Change], us: Sequence[Change], us_ms: int = 6) -> tuple[str, Made, Made]:
        return name, _write(base, eu, EU, 2, _at(5)), _write(base, us, US, 1, _at(us_ms, "us"))

    return [
        both("the newer assignment wins", (Assign("owner", "ben"),), (Assign("owner", "cleo"),)),
        both("of equal milliseconds the region decides", (Assign("owner", "ben"),), (Assign("owner", "cleo"),), 5),
        both("different fields stand side by side", (Assign("owner", "ben"),), (Raise("size_gb", 11),)),
        both("the larger of two maxima", (Raise("size_gb", 20),), (Raise("size_gb", 15),)),
        both("the smaller of two minima", (Lower("price", 2),), (Lower("price", 1),)),
        both("counts add up", (Increment("reads", 4),), (Increment("reads", 5),)),
        both(
            "an addition wins over a removal beside it", (Add("copies", ("us",)),), (Remove("copies", ("us",)),)
        ),
        both("what both remove is gone", (Remove("copies", ("us",)),), (Remove("copies", ("us", "eu")),)),
        both("a newer delete ends what was written before it", (Assign("owner", "ben"),), (Delete(),)),
        both(
            "what is newer than a delete begins it anew", (Delete(),), (Assign("owner", "cleo"), Increment("reads"))
        ),
        both("a field under two policies keeps both", (Assign("reads", "many"),), (Increment("reads", 1),)),
    ]  # fmt: skip


def _merges() -> list[dict[str, Any]]:
    """Two states of a key, in either order, and the one that contains both."""
    found = [
        {"name": name, "left": left, "right": right, "record": (record := merge(left, right)), "reads": view(record)}
        for name, (left, _), (right, _) in _pairs()
    ]
    seen, _ = _write(_first(), (Assign("owner", "ben"),), US, 1, _at(6, "us"))
    found.append(
        {
            "name": "a state that contains the other is the result, whatever the stamps",
            "left": _first(),
            "right": seen,
            "record": (record := merge(_first(), seen)),
            "reads": view(record),
        }
    )
    return found


def _conflicts() -> list[dict[str, Any]]:
    """Two concurrent writes, in either order, and the row that they are."""
    return [
        {
            "name": name,
            "key": KEY,
            "one": left,
            "other": right,
            **{
                part: getattr(row, part)
                for row in [conflict(KEY, left, right, NOW_MS)]
                for part in ("conflict_id", "policy", "resolution", "left", "right")
            },
        }
        for name, (_, left), (_, right) in _pairs()
    ]


_STAMPS: Final = (_at(0), _at(0, counter=1), _at(0, "us"), _at(-1, "us", 9), _at(1, "ap"), _at(0, "EU"), _at(0, "eu-2"))


def _clock() -> list[dict[str, Any]]:
    """Readings: after the last whatever the wall clock says, and after what was admitted."""
    ticks = [
        {"last": last, "now_ms": now_ms, "region": "eu", "tick": tick(last, now_ms, "eu")}
        for last, now_ms in ((_at(0), NOW_MS + 1), (_at(0), NOW_MS), (_at(0, counter=4), NOW_MS - 1_000))
    ]
    seen = [{"last": _at(0), "seen": one, "observed": observed(_at(0), one)} for one in _STAMPS]
    return [*ticks, *seen]


def _admission() -> list[dict[str, Any]]:
    """What is done with a stamp so far ahead of the judge's clock, by the limits that stand where none are set."""
    ahead = (-(10**9), 0, 500, 501, 60_000, 60_001, 86_400_000, 86_400_001)
    return [{"ahead_ms": ms, "admission": admission(NOW_MS + ms, NOW_MS)} for ms in ahead]


def _digests() -> dict[str, Any]:
    """Records in their only encoding, with bucket and hash; and the digests of all of them together."""
    records = [_first(), *(_write(None, (Assign("n", n),), EU, n, _at(n), key=f"key-{n}")[0] for n in range(1, 4))]
    return {
        "records": [
            {
                "encoded": encode_record(record).decode(),
                "bucket": bucket_of(record.key),
                "hash": f"{record_hash(record):016x}",
            }
            for record in records
        ],
        "digests": encode_digests(digests_of(records)),
    }
