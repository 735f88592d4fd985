"""Print the Spark jars of the lock, separated by commas, for ``spark-submit --jars``; fetch them first if need be."""

import sys

from thalweg.bootstrap.jars import ensure_jars
from thalweg.bootstrap.java import ensure_java
from thalweg.bootstrap.progress import say
from thalweg.conf.environment import JarSet, SetupIncompleteError, jar_paths


def main() -> int:
    """Print them; return the exit code."""
    try:
        ensure_jars(ensure_java())
        print(",".join(map(str, jar_paths(JarSet.SPARK))))
    except SetupIncompleteError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
