"""Print the Spark jars of the lock, separated by commas, for ``spark-submit --jars``; fetch them first if need be.

``print_jars s3`` adds what checkpoints on S3 want, which nothing else fetches.
"""

import sys
from collections.abc import Sequence
from typing import Final

from thalweg.bootstrap.jars import ensure_jars
from thalweg.bootstrap.java import ensure_java
from thalweg.bootstrap.progress import say
from thalweg.conf.environment import JarSet, SetupIncompleteError, jar_paths

_WRONG_CALL: Final = 2


def main(arguments: Sequence[str]) -> int:
    """Print them; return the exit code."""
    if arguments not in ([], [JarSet.S3]):
        say(f"unknown: {' '.join(arguments)}. Call: python -m thalweg.bootstrap.print_jars [s3]")
        return _WRONG_CALL
    sets = [JarSet.SPARK, *(JarSet(name) for name in arguments)]
    try:
        java = ensure_java()
        for jar_set in sets:
            ensure_jars(java, lock=jar_set.lock)
        print(",".join(str(path) for jar_set in sets for path in jar_paths(jar_set)))
    except SetupIncompleteError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
