"""Give a script the variables that it knows from another system, where an agent's own tell the same."""

import re
from collections.abc import Collection, Mapping


def exports(script: str, told: Mapping[str, str], always: Collection[str] = ()) -> str:
    """Write lines that go before a script: each variable that it reads, by what stands in for it.

    Args:
        script: for a shell.
        told: by the variable's name, the shell's words for its value; agents set THALWEG_ variables, and those of a
            distributed start (docs/how-to/tasks.md).
        always: names that are told also to a script that does not read them itself, where they are in `told`.
    """
    read = [name for name in told if name in always or re.search(rf"\b{name}\b", script)]
    return "".join(f"export {name}={told[name]}\n" for name in read)
