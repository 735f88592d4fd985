import pytest

from thalweg.query.sql.sql_statement import QueryRefusedError, read_only


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "  SELECT * FROM tasks ; ",
        "with a as (select 1 as x) select x from a",
        "(select 1) union (select 2)",
        "-- how many\nselect count(*) from tasks /* all; of them */",
        "explain analyze select * from tasks",
        "show tables",
        "describe tasks",
        "explain analyze verbose select 1",
        "explain format tree with a as (select 1) select * from a",
        "select copy from placements order by copy",
        "select 'drop table tasks; delete' as words, \"set\" from t",
        "select 'it''s -- not a comment' from tasks",
    ],
)
def test_a_query_passes(sql: str) -> None:
    assert read_only(sql) == sql.strip().rstrip(";").strip()


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("drop table tasks", "DROP"),
        ("copy (select 1) to 'out.csv'", "COPY"),
        ("explain analyze copy (select 1) to 'out.csv'", "COPY"),
        ("with a as (select 1) insert into tasks select * from a", "INSERT"),
        ("select * into other from tasks", "INTO"),
        ("/* select */ create view v as select 1", "CREATE"),
        ("-- it's\ncreate view v as select ''", "CREATE"),
        ("explain select 1 -- '\n; drop table tasks --'", "one statement"),
        ("select e'\\'' ; drop table tasks --'", "DROP|one statement"),
        ("select $$ ' $$ into x from y --'", "INTO"),
        ("explain", "EXPLAIN"),
        ("describe analyze copy (select 1) to 'out.csv'", "DESCRIBE takes"),
        ("explain analyze verbose create table x as select 1", "EXPLAIN CREATE"),
        ("explain format tree insert into tasks select 1", "EXPLAIN INSERT"),
        ("set datafusion.execution.batch_size = 1", "SET"),
        ("vacuum tasks", "VACUUM"),
        ("select 1; select 2", "one statement"),
        ("", "empty"),
        (" -- nothing", "empty"),
    ],
)
def test_whatever_could_write_is_refused_by_name(sql: str, word: str) -> None:
    with pytest.raises(QueryRefusedError, match=word):
        read_only(sql)
