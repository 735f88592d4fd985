"""`python -m thalweg.benchmarks.mutants COMMAND`: which mistakes in the product would a test notice?

`map` runs the tests once and notes which execute which lines; `run` tries mistakes of a seeded sample, one after the
other, against the tests that execute their line; `survivors` lists those that nobody noticed, and `judge` writes down
why. Ctrl-C ends a run; the next one goes on. The product is never touched: mistakes are put into a copy.
"""

import json
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from thalweg.benchmarks.mutants.coverage_map import CoverageMap, make_map, read_map
from thalweg.benchmarks.mutants.mutations import lines_of
from thalweg.benchmarks.mutants.record import FOUND, SURVIVED, UNREACHED, Entry, Record
from thalweg.benchmarks.mutants.sampling import draw, sources
from thalweg.benchmarks.mutants.trial import FIRST_S, MOST_TEST_S, TreeCopy, Tried, nearest, within
from thalweg.conf.environment import PROJECT_ROOT, results_folder

MAP: Final = PROJECT_ROOT / ".thalweg" / "mutants" / "map"
FOREIGN_S: Final = 60.0
"""What a test may take that the map does not know."""
_RECORD: Final = click.option(
    "--record",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=results_folder() / "mutants.json",
    show_default="benchmarks/results/mutants.json",
    help="Where the record lies; it is gone on with.",
)


def say(words: str) -> None:
    """Tell a person how far it is."""
    click.echo(words, err=True)


@click.group(help=__doc__)
def main() -> None:
    """See the module's words."""


@main.command(name="map")
@click.argument("folders", nargs=-1)
def map_command(folders: tuple[str, ...]) -> None:
    """Note which tests execute which lines; only FOLDERS of tests, if some are named. What is there stays."""
    make_map(PROJECT_ROOT, MAP, say, *([folders] if folders else []))


@main.command()
@_RECORD
@click.option("--seed", default=0, show_default=True, help="Of the sample; only at its beginning.")
@click.option("--mutants", "count", default=300, show_default=True, help="Size of the sample; only at its beginning.")
@click.option("--at-most", default=0, metavar="N", help="Try so many and end; 0 tries all that is left.")
@click.option(
    "--most-s", default=MOST_TEST_S, show_default=True, help="Tests for one mistake take at most so long without it."
)
@click.option("--again", is_flag=True, help="Try survivors once more, with the tests and the map as they are now.")
@click.option(
    "--with", "files", multiple=True, metavar="TEST", help="Run these tests instead of the map's; repeatable."
)
@click.option("--stage", type=click.Choice(["written", "broker"]), default="written", show_default=True)
@click.option("--only", multiple=True, type=int, metavar="NUMBER", help="Only these.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def run(
    path: Path,
    seed: int,
    count: int,
    at_most: int,
    most_s: float,
    again: bool,
    files: tuple[str, ...],
    stage: str,
    only: tuple[int, ...],
    as_json: bool,
) -> None:
    """Try mistakes that were not tried yet (with --again: that nobody noticed)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the copy and its process go with this one
    record = Record.read(path) if path.exists() else _new_record(seed, count)
    covered = read_map(MAP)
    if not covered.seconds and not files:
        raise click.UsageError("there is no map: python -m thalweg.benchmarks.mutants map")
    todo = [entry for entry in record.entries if (entry.outcome in (SURVIVED, UNREACHED) and not entry.later) == again]
    todo = [entry for entry in todo if again or not entry.outcome]
    todo = [entry for entry in todo if not only or entry.number in only][: at_most or None]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = TreeCopy(PROJECT_ROOT, Path(folder))
        try:
            for done, entry in enumerate(todo, 1):
                _try(copy, entry, covered, files, most_s, stage if again else "")
                record.write(path)
                say(_in_words(entry, done, len(todo)))
        except KeyboardInterrupt:
            say("ended early; the next run goes on")
        finally:
            copy.close()
    click.echo(json.dumps(record.summary(), indent=None if as_json else 1))


def _new_record(seed: int, count: int) -> Record:
    rooms = sources(PROJECT_ROOT)
    entries = []
    for one in draw(rooms, count, seed):
        source, mutation = rooms[one.room][one.path], one.mutation
        entries.append(
            Entry(
                number=one.number,
                room=one.room,
                path=one.path,
                line=mutation.line,
                kind=mutation.kind,
                before=mutation.before,
                after=mutation.after,
                text=source.splitlines()[mutation.line - 1].strip(),
            )
        )
    lines = {room: sum(map(lines_of, texts.values())) for room, texts in rooms.items()}
    return Record(seed=seed, asked=count, lines=lines, entries=entries)


def _try(copy: TreeCopy, entry: Entry, covered: CoverageMap, files: tuple[str, ...], most_s: float, stage: str) -> None:
    source = (copy.root / entry.path).read_text(encoding="utf-8")
    mutation = entry.mutation_in(source)
    if mutation is None:
        raise click.ClickException(f"mutant {entry.number}: its line is gone from {entry.path}; begin a new record")
    every = covered.tests_of(entry.path, mutation.line, copy.root)
    tests = list(files) or within(every, covered.seconds, most_s)
    if not tests:
        entry.outcome, entry.seconds = UNREACHED, 0.0
        return
    near = [] if files else within(nearest(tests, entry.path), covered.seconds, FIRST_S)
    others = [test for test in tests if test not in set(near)]
    with copy.with_mistake(entry.path, mutation):
        tried = _run_in_turn(copy, [near, others], covered.seconds)
    if stage:
        entry.later, entry.later_stage = (tried.by, stage) if tried.found else ("", "")
        return
    entry.outcome, entry.by = (FOUND, tried.by) if tried.found else (SURVIVED, "")
    entry.seconds, entry.ran = tried.seconds, tried.ran
    entry.left_out = 0 if files else len(every) - len(tests)


def _run_in_turn(copy: TreeCopy, groups: Sequence[Sequence[str]], seconds: Mapping[str, float]) -> Tried:
    """Run groups of tests, one after the other, until one fails."""
    whole = Tried(found=False, by="", seconds=0.0, ran=0)
    for tests in filter(None, groups):
        tried = copy.run(tests, sum(seconds.get(test, FOREIGN_S) for test in tests))
        whole = replace(tried, seconds=round(whole.seconds + tried.seconds, 2), ran=whole.ran + tried.ran)
        if whole.found:
            break
    return whole


def _in_words(entry: Entry, done: int, of: int) -> str:
    outcome = (
        f"found since, by {entry.later}" if entry.later else entry.outcome + (f" by {entry.by}" if entry.by else "")
    )
    return f"{done} of {of}: {entry.number} {entry.path}:{entry.line} {entry.kind}: {outcome} ({entry.seconds} s)"


@main.command()
@_RECORD
def survivors(path: Path) -> None:
    """List the mistakes that nobody noticed."""
    for entry in Record.read(path).entries:
        if entry.outcome in (SURVIVED, UNREACHED) and not entry.later:
            click.echo(f"{entry.number} {entry.path}:{entry.line} [{entry.kind}; {entry.outcome}] {entry.judgement}")
            click.echo(f"    {entry.before}\n  → {entry.after}")


@main.command()
@_RECORD
@click.option("--equivalent", is_flag=True, help="It changes nothing that anybody could see.")
@click.argument("number", type=int)
@click.argument("judgement")
def judge(path: Path, equivalent: bool, number: int, judgement: str) -> None:
    """Write down in a line why a mistake was not noticed."""
    record = Record.read(path)
    (entry,) = (one for one in record.entries if one.number == number)
    entry.judgement, entry.equivalent = judgement, equivalent
    record.write(path)


if __name__ == "__main__":
    main()
