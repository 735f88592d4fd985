"""The worked cases for other implementations: all that can happen is among them, in any order, from JSON alone."""

import json
from typing import Any

import msgspec

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.sync.proof.worked_cases import cases
from thalweg.sync.protocol.changes import Change, changed_record
from thalweg.sync.protocol.conflicts import Resolution, Write, conflict
from thalweg.sync.protocol.merge import merge
from thalweg.sync.protocol.policies import MergePolicy
from thalweg.sync.protocol.records import Record, decode_record, encode_record
from thalweg.sync.protocol.stamps import Admission, Hlc

PAGE = PROJECT_ROOT / "docs" / "reference" / "sync-cases.json"


def of(kind: Any, plain: object) -> Any:
    return msgspec.convert(plain, kind)


def test_what_is_published_can_be_worked_out_again_from_what_stands_there() -> None:
    published = json.loads(PAGE.read_text(encoding="utf-8"))
    for one in published["changes"]:
        changes = tuple(of(Change, change) for change in one["changes"])
        made = changed_record(
            one["base"]["key"], of(Record, one["base"]), changes, one["actor"], one["seq"], of(Hlc, one["at"])
        )
        assert encode_record(made) == encode_record(of(Record, one["record"])), one["name"]
    for one in published["merges"]:
        left, right = of(Record, one["left"]), of(Record, one["right"])
        wanted = encode_record(of(Record, one["record"]))
        assert encode_record(merge(left, right)) == encode_record(merge(right, left)) == wanted, one["name"]
    for one in published["conflicts"]:
        left, right = of(Write, one["one"]), of(Write, one["other"])
        for row in (conflict(one["key"], left, right, 0), conflict(one["key"], right, left, 0)):
            assert (row.conflict_id, row.policy, str(row.resolution)) == (
                one["conflict_id"], one["policy"], one["resolution"]
            ), one["name"]  # fmt: skip
    for one in published["digests"]["records"]:
        assert encode_record(decode_record(one["encoded"])).decode() == one["encoded"]


def test_every_change_policy_resolution_and_admission_is_among_them() -> None:
    made = cases()
    changes = {change["op"] for one in made["changes"] for change in one["changes"]}
    assert changes == {"assign", "raise", "lower", "add", "remove", "increment", "delete"}
    policies = {name.partition(":")[0] for one in made["changes"] for name in one["changed"]}
    assert policies == set(MergePolicy)
    assert {one["resolution"] for one in made["conflicts"]} == set(Resolution)
    assert {one["admission"] for one in made["admission"]} == set(Admission)
    assert any(ord(character) > 127 for one in made["digests"]["records"] for character in one["encoded"])
