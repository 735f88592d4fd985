"""Tell statements that only read from all others, before the engine sees them.

The engine would run COPY … TO, CREATE and the like. A statement passes if it begins as a query does and no word outside
its literals could write.
"""

import re
from typing import Final

ALLOWED: Final = ("SELECT", "WITH", "EXPLAIN", "SHOW", "DESCRIBE")
# What may write within a query, after WITH or SELECT. COPY, CREATE and the like write only where a statement begins (or
# after EXPLAIN ANALYZE), and `copy` is a column of ours.
_WRITING: Final = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "INTO"})
_EXPLAIN_OPTIONS: Final = frozenset({"ANALYZE", "VERBOSE", "FORMAT", "INDENT", "TREE", "PGJSON", "GRAPHVIZ"})
_LITERAL_OR_COMMENT: Final = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class QueryRefusedError(Exception):
    """The statement is not a query, or names what does not exist; nothing was run."""


def read_only(sql: str) -> str:
    """Return the statement as the engine should run it.

    Raises:
        QueryRefusedError: it is empty, is more than one statement, or could write.
    """
    statement = sql.strip().rstrip(";").strip()
    bare = _LITERAL_OR_COMMENT.sub(" ", statement)
    words = [word.upper() for word in _WORD.findall(bare)]
    if not words:
        raise QueryRefusedError(f"the query is empty; it begins with one of {', '.join(ALLOWED)}")
    if words[0] not in ALLOWED:
        raise QueryRefusedError(
            f"{words[0]} is not allowed: tables are written by their jobs alone. A query begins with one of "
            + ", ".join(ALLOWED)
        )
    inner = [word for word in words[1:] if word not in _EXPLAIN_OPTIONS]
    if words[0] == "EXPLAIN" and inner[:1] not in (["SELECT"], ["WITH"]):
        raise QueryRefusedError(f"EXPLAIN {' '.join(inner[:1])} is not allowed: explained are SELECT and WITH")
    if words[0] == "DESCRIBE" and len(words) > 2:
        raise QueryRefusedError(f"DESCRIBE takes the name of one table, seen: {' '.join(words[1:])}")
    # Where backslashes or dollar quotes could make the engine see other literals than we do, everything counts.
    seen = statement if "\\" in statement or "$" in statement else bare
    if ";" in seen:
        raise QueryRefusedError("one statement at a time: seen ';' inside the query")
    for word in _WORD.findall(seen.upper()):
        if word in _WRITING:
            raise QueryRefusedError(
                f"{word} is not allowed: queries only read. If it is the name of a column, put it in double quotes"
            )
    return statement


def names_in(statement: str) -> frozenset[str]:
    """Every word of a statement in lower case: among them the tables that it reads."""
    return frozenset(word.lower() for word in _WORD.findall(statement))
