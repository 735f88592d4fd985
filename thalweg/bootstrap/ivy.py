"""Run the Ivy that pyspark ships: the one way this project talks to a Maven repository."""

import importlib.util
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from thalweg.conf.environment import CONF, IN_CLONE, PREPARE, Java, SetupIncompleteError

SETTINGS = CONF / "jars" / "ivysettings.xml"


def ivy_jar() -> Path:
    """Return pyspark's Ivy.

    Raises:
        SetupIncompleteError: pyspark is not installed in the running environment.
    """
    pyspark = importlib.util.find_spec("pyspark")
    found = sorted((Path(pyspark.origin).parent / "jars").glob("ivy-*.jar")) if pyspark and pyspark.origin else []
    if not found:
        remedy = PREPARE if IN_CLONE else "pip install 'thalweg[plane]'"
        raise SetupIncompleteError("pyspark is not installed beside this Python.", f"Install it: {remedy}")
    return found[-1]


def retrieve(
    java: Java,
    module: Path,
    *,
    pattern: str,
    cache: Path,
    poms: bool,
    on_jar: Callable[[], None],
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Resolve a module file and copy its jars to ``pattern``; ``on_jar`` is called for each one downloaded.

    Args:
        java: The runtime to use.
        module: An ivy.xml.
        pattern: Where each jar goes, with Ivy's [conf], [organisation], [module], [artifact], [revision].
        cache: Ivy's own folder; a repeated call finds there what an interrupted one had downloaded.
        poms: Whether to read the repository's module files, to learn what a jar needs in turn.
        on_jar: Progress.
        environ: THALWEG_IVY_SETTINGS names other Ivy settings than the project's.

    Raises:
        SetupIncompleteError: Ivy failed; the message carries its own words.
    """
    settings = Path(environ.get("THALWEG_IVY_SETTINGS") or SETTINGS)
    command = [str(java.executable), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    command += [f"-Dthalweg.ivy.cache={cache}", f"-Dthalweg.ivy.poms={str(poms).lower()}"]
    command += ["-cp", str(ivy_jar()), "org.apache.ivy.Main", "-settings", str(settings), "-ivy", str(module)]
    command += ["-retrieve", pattern]
    complaints = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "[SUCCESSFUL ]" in line and line.rstrip().split("(")[0].rstrip().endswith(".jar"):
                on_jar()
            # Ivy repeats what went wrong at the end, each line led by colons; only that is worth showing.
            if line.lstrip().startswith("::") and any(w in line for w in ("not found", "UNRESOLVED", "FAILED", "#")):
                complaints.append(line.strip(" :\n\t"))
            if "Server access error" in line or "Exception" in line:
                complaints.append(line.strip())
    if process.returncode != 0:
        told = "; ".join(dict.fromkeys(complaints)) or f"exit code {process.returncode}"
        raise SetupIncompleteError(
            f"Fetching jars failed: {told[:1500]}.",
            "Check that the Maven repository can be reached (settings: conf/jars/ivysettings.xml), then run again.",
        )
