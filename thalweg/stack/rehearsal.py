"""Make the class archives of the broker and of Spark: once each, from a start and a little work of both.

`thalweg up` and `./run test` do it, some twenty seconds on an idle machine; every start of a JVM afterwards is some
seconds shorter. Nothing depends on it: where it fails, JVMs start as they did.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from thalweg.conf.class_archive import ARCHIVED, KEPT, archive_of, archives_folder, is_whole, length_file, with_options
from thalweg.conf.environment import JarSet, Java, find_java, jar_paths
from thalweg.processes import leash
from thalweg.processes.children import Child, ChildFailedError, kill_group
from thalweg.processes.ports import LOOPBACK
from thalweg.stack.broker import BrokerSetupError, broker_spec, choose_ports

PATIENCE_S: Final = 300.0
"""For either JVM to end: writing the archive takes seconds, on a crowded machine a minute."""

BRIEFLY: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""It lives for seconds. An archive serves a JVM with other collectors and compilers as well."""

SCRATCH: Final = ".rehearsal-"
"""Begins the name of a rehearsal's folder, which is gone after it."""


class RehearsalError(Exception):
    """It could not be done; what was begun is gone."""


def ensure_archives(say: Callable[[str], None], java: Java | None = None) -> None:
    """Make the archives that are not there; says what it does, and what prevented it."""
    java = java or find_java()
    missing = [jar_set for jar_set in ARCHIVED if not is_whole(archive_of(jar_set, java))]
    if not missing:
        return
    say("laying out Java's classes for quicker starts, once (some 20 s)")
    folder = archives_folder()
    started = time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _ending_in_order(), _scratch_in(folder) as scratch:
            _rehearse(java, scratch, missing)
    except (OSError, ChildFailedError, BrokerSetupError, RehearsalError, subprocess.SubprocessError) as error:
        words = str(error).splitlines()  # of a process: that it ended, and its last lines
        say(f"Java's classes were not laid out, so starts take longer ({' '.join([*words[:1], *words[1:][-2:]])})")
        return
    _forget_old(folder, java)
    say(f"Java's classes are laid out ({time.monotonic() - started:.0f} s)")


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this as Ctrl-C does, so that what was begun is put away; once, then that is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    asked = (signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.getsignal(each) for each in asked if signal.getsignal(each) is not signal.SIG_IGN}
    for each in before:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _scratch_in(folder: Path) -> Iterator[Path]:
    """Make a folder for the time of a rehearsal, and take away those of rehearsals that were killed."""
    with ExitStack() as held:
        with _locked(folder):
            for left in folder.glob(f"{SCRATCH}*"):
                with suppress(OSError), _locked(left, or_fail=True):  # who rehearses there holds it
                    shutil.rmtree(left, ignore_errors=True)
            scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
            held.callback(shutil.rmtree, scratch, ignore_errors=True)
            held.enter_context(_locked(scratch))
        yield scratch


@contextmanager
def _locked(folder: Path, *, or_fail: bool = False) -> Iterator[None]:
    """Hold a folder against other processes that would; the kernel lets go of it when this one ends."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (fcntl.LOCK_NB if or_fail else 0))
        yield
    finally:
        os.close(opened)


def _rehearse(java: Java, scratch: Path, missing: Sequence[JarSet]) -> None:
    """Make the archives that are missing; Spark's needs a broker too, and a new environment has often but that one."""
    made = {jar_set: scratch / f"{jar_set}.jsa" for jar_set in missing}
    ports = choose_ports()
    recorded = JarSet.BROKER in made
    spec = broker_spec(scratch / "broker", ports, java=java, jars=jar_paths(JarSet.BROKER), archived=not recorded)
    if recorded:
        program, *arguments = spec.argv
        spec = replace(spec, argv=(program, f"-XX:ArchiveClassesAtExit={made[JarSet.BROKER]}", *arguments))
    broker = Child(replace(spec, stop_timeout_seconds=PATIENCE_S), scratch / "broker.log")
    try:
        broker.wait_ready()
        if JarSet.SPARK in made:
            _rehearse_spark(scratch, made[JarSet.SPARK], ports.bootstrap)
    except BaseException:
        broker.kill()  # asked to stop, it would write its archive first
        raise
    broker.stop()
    for jar_set, archive in made.items():
        if archive.is_file():
            made_as = archive_of(jar_set, java)
            length_file(made_as).write_text(str(archive.stat().st_size), encoding="ascii")
            archive.rename(made_as)


def _rehearse_spark(scratch: Path, archive: Path, bootstrap: str) -> None:
    """Let Spark do in a process of its own what the jobs do; it returns when its JVM has written the archive."""
    options = with_options([f"-XX:ArchiveClassesAtExit={archive}", *BRIEFLY], os.environ.get("SPARK_SUBMIT_OPTS"))
    environ = {**os.environ, "SPARK_SUBMIT_OPTS": options, "TMPDIR": str(scratch), "SPARK_LOCAL_IP": LOOPBACK}
    command = [sys.executable, "-P", "-m", "thalweg.jobs.microbatch.rehearsal", bootstrap, str(scratch / "tables")]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command],
        env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as rehearsing:  # fmt: skip
        try:
            _, said = rehearsing.communicate(timeout=PATIENCE_S)
        except BaseException:
            kill_group(rehearsing.pid)  # its JVM, too, which would go on and write
            raise
    if rehearsing.returncode != 0:
        words = said.strip().splitlines() or [f"exit code {rehearsing.returncode}"]
        raise RehearsalError(f"Spark: {words[-1]}")


def _forget_old(folder: Path, java: Java) -> None:
    for jar_set in ARCHIVED:  # each by itself: environments share the broker's, which is older than all of Spark's
        others = (archive for archive in folder.glob(f"{jar_set}-*.jsa") if archive != archive_of(jar_set, java))
        made = sorted(others, key=lambda archive: archive.stat().st_mtime, reverse=True)
        for archive in made[KEPT:]:
            archive.unlink(missing_ok=True)
            length_file(archive).unlink(missing_ok=True)


def main() -> int:
    """Make them; 0 also where it could not be done."""
    ensure_archives(lambda words: print(f"thalweg: {words}", file=sys.stderr, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
