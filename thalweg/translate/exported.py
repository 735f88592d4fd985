"""Give a script the variables that it knows from another system, where an agent's own tell the same."""

import re
from collections.abc import Mapping


def exports(script: str, told: Mapping[str, str]) -> str:
    """Write lines that go before a script: each variable that it reads, by what stands in for it.

    Args:
        script: for a shell.
        told: by the variable's name, the shell's words for its value; agents set THALWEG_ variables, and those of a
            distributed start (docs/how-to/tasks.md).
    """
    read = [name for name in told if re.search(rf"\b{name}\b", script)]
    return "".join(f"export {name}={told[name]}\n" for name in read)
