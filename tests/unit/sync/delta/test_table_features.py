"""Features of a table that we would break are named, by use and not by mention."""

import json
from typing import Any

import pytest

from thalweg.sync.delta.table_features import refused_feature, shape

NAMED: dict[str, Any] = {"minWriterVersion": 7}


def metadata(column: dict[str, Any] | None = None, **properties: str) -> dict[str, Any]:
    fields = [{"name": "a", "type": "long", "nullable": True, "metadata": column or {}}]
    schema = json.dumps({"type": "struct", "fields": fields})
    return {"schemaString": schema, "configuration": properties}


def refused(feature: str, of: dict[str, Any], *, append_only: bool = False, expires: bool = False) -> str | None:
    protocol = {**NAMED, "writerFeatures": [feature]}
    return refused_feature(protocol, of, append_only=append_only, expires=expires)


@pytest.mark.parametrize(
    ("feature", "column"),
    [
        ("invariants", {"delta.invariants": '{"expression": {"expression": "a > 3"}}'}),
        ("generatedColumns", {"delta.generationExpression": "b + 1"}),
        ("identityColumns", {"delta.identity.start": 1}),
    ],
)
def test_what_a_column_asks_for_is_found_in_the_schema(feature: str, column: dict[str, Any]) -> None:
    assert refused(feature, metadata(column)) == feature
    assert refused(feature, metadata(column), append_only=True) == feature
    assert refused(feature, metadata()) is None, "it is only listed"


@pytest.mark.parametrize(
    ("version", "feature", "of"),
    [
        (2, "invariants", metadata({"delta.invariants": "a > 3"})),
        (3, "checkConstraints", metadata(**{"delta.constraints.positive": "a > 0"})),
        (4, "changeDataFeed", metadata(**{"delta.enableChangeDataFeed": "true"})),
        (4, "generatedColumns", metadata({"delta.generationExpression": "b + 1"})),
        (5, "columnMapping", metadata(**{"delta.columnMapping.mode": "name"})),
        (6, "identityColumns", metadata({"delta.identity.step": 1})),
    ],
)
def test_before_features_had_names_a_version_meant_them(version: int, feature: str, of: dict[str, Any]) -> None:
    def answer(minimum: int) -> str | None:
        return refused_feature({"minWriterVersion": minimum}, of, append_only=False, expires=False)

    assert answer(version) == feature
    assert answer(version - 1) is None


def test_a_table_that_may_only_grow_is_refused_where_rows_are_replaced_or_expire() -> None:
    only_grows = metadata(**{"delta.appendOnly": "true"})
    assert refused("appendOnly", only_grows, append_only=True) is None
    assert refused("appendOnly", only_grows, append_only=True, expires=True) == "appendOnly"
    assert refused("appendOnly", only_grows) == "appendOnly"


def test_a_change_feed_is_fine_where_rows_are_only_added() -> None:
    feed = metadata(**{"delta.enableChangeDataFeed": "TRUE"})
    assert refused("changeDataFeed", feed, append_only=True) is None
    assert refused("changeDataFeed", feed) == "changeDataFeed"


def test_a_feature_that_we_have_never_heard_of_is_refused_also_where_only_readers_need_it() -> None:
    assert refused("somethingNew", metadata()) == "somethingNew"
    readers = {**NAMED, "readerFeatures": ["somethingNew"]}
    assert refused_feature(readers, metadata(), append_only=True, expires=False) == "somethingNew"


def test_a_shape_is_columns_types_and_partitions_without_comments() -> None:
    plain = {**metadata(), "partitionColumns": ["a"]}
    assert shape(plain) == shape({**metadata({"comment": "what it is"}), "partitionColumns": ["a"]})
    assert shape(plain) != shape({**metadata({"delta.identity.start": 1}), "partitionColumns": ["a"]})
    assert shape(plain) != shape({**metadata(), "partitionColumns": []})
