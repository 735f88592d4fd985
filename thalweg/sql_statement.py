"""Tell statements that only read from all others, before the engine sees them.

The engine would run COPY … TO, CREATE and the like. A statement passes if it begins as a query does and no word outside
its literals could write.
"""

import re
from typing import Final

ALLOWED: Final = ("SELECT", "WITH", "EXPLAIN", "SHOW", "DESCRIBE")
_WRITING: Final = frozenset(
    {"INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "CREATE", "DROP", "ALTER", "TRUNCATE", "INTO", "SET", "PREPARE"}
)
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
    if ";" in bare:
        raise QueryRefusedError("one statement at a time: seen ';' inside the query")
    # Where backslashes or dollar quotes could make the engine see other literals than we do, every word counts.
    ambiguous = "\\" in statement or "$" in statement
    for word in _WORD.findall(statement.upper()) if ambiguous else words:
        if word in _WRITING:
            raise QueryRefusedError(
                f"{word} is not allowed: queries only read. If it is the name of a column, put it in double quotes"
            )
    return statement


def names_in(statement: str) -> frozenset[str]:
    """Every word of a statement in lower case: among them the tables that it reads."""
    return frozenset(word.lower() for word in _WORD.findall(statement))
