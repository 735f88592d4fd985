"""`python -m thalweg.benchmarks.mutants COMMAND`: which mistakes in the product would a test notice?

`map` runs the tests once and notes which execute which lines; `run` tries mistakes of a seeded sample, one after the
other, against the tests that execute their line; `survivors` lists those that nobody noticed, and `judge` writes down
why. Ctrl-C ends a run; the next one goes on. The product is never touched: mistakes are put into a copy.
"""

import json
import signal
import tempfile
from pathlib import Path
from typing import Any, Final

import click

from thalweg.benchmarks.mutants.asking import Passed, ask, ask_these
from thalweg.benchmarks.mutants.coverage_map import make_map, read_map
from thalweg.benchmarks.mutants.mutations import lines_of
from thalweg.benchmarks.mutants.record import SURVIVED, UNREACHED, Entry, Record, changing
from thalweg.benchmarks.mutants.sampling import Drawn, draw, draw_another, sources
from thalweg.benchmarks.mutants.trial import MOST_TEST_S, TreeCopy
from thalweg.conf.environment import PROJECT_ROOT, results_folder

MAP: Final = PROJECT_ROOT / ".thalweg" / "mutants" / "map"
PASSED: Final = MAP.with_name("passed")
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
@click.option(
    "--left-out", is_flag=True, help="Try survivors once more, with tests of the map that were not asked yet."
)
@click.option("--again", is_flag=True, help="Try survivors once more, with tests that were written since.")
@click.option("--with", "files", multiple=True, metavar="TEST", help="With --again: these tests; repeatable.")
@click.option("--stage", type=click.Choice(["written", "broker"]), default="written", show_default=True)
@click.option("--only", multiple=True, type=int, metavar="NUMBER", help="Only these.")
@click.option("--share", default="1/1", metavar="I/N", help="Every Nth from the Ith: N processes at the same time.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def run(
    path: Path,
    seed: int,
    count: int,
    at_most: int,
    most_s: float,
    left_out: bool,
    again: bool,
    files: tuple[str, ...],
    stage: str,
    only: tuple[int, ...],
    share: str,
    as_json: bool,
) -> None:
    """Try mistakes that were not tried yet."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the copy and its process go with this one
    if again != bool(files):
        raise click.UsageError("--again goes with --with TEST: the tests that were written since")
    covered = read_map(MAP)
    if not covered.seconds and not files:
        raise click.UsageError("there is no map: python -m thalweg.benchmarks.mutants map")
    if not (again or left_out):
        _ready(path, seed, count)
    todo = [entry for entry in Record.read(path).entries if _is_asked(entry, left_out=left_out, again=again)]
    todo = [entry for entry in todo if not only or entry.number in only]
    todo = [entry for entry in todo if _is_of(entry.number, share)][: at_most or None]
    passed = Passed.of_tree(PROJECT_ROOT, PASSED)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = TreeCopy(PROJECT_ROOT, Path(folder))
        try:
            for done, entry in enumerate(todo, 1):
                mutation = entry.mutation_in((copy.root / entry.path).read_text(encoding="utf-8"))
                if mutation is None:
                    raise click.ClickException(f"mutant {entry.number}: its line is gone from {entry.path}")
                changed = (
                    ask_these(copy, entry, mutation, files, covered.seconds, stage)
                    if files
                    else ask(copy, entry, mutation, covered, passed, most_s)
                )
                _note(path, entry, changed)
                say(_in_words(entry, done, len(todo)))
        except KeyboardInterrupt:
            say("ended early; the next run goes on")
        finally:
            copy.close()
    click.echo(json.dumps(Record.read(path).summary(), indent=None if as_json else 1))


def _is_asked(entry: Entry, *, left_out: bool, again: bool) -> bool:
    missed = entry.outcome in (SURVIVED, UNREACHED) and not entry.later
    return missed if left_out or again else not entry.outcome


def _is_of(number: int, share: str) -> bool:
    first, _, of = share.partition("/")
    if not (first.isdigit() and of.isdigit() and 1 <= int(first) <= int(of)):
        raise click.UsageError(f"--share {share}: wanted is I/N, as 1/2 and 2/2")
    return number % int(of) == int(first) - 1


def _note(path: Path, entry: Entry, changed: dict[str, Any]) -> None:
    """Write what changes of one entry; whatever else was written meanwhile stays."""
    with changing(path) as record:
        for one in (record.of(entry.number), entry):
            for name, value in changed.items():
                setattr(one, name, value)


def _ready(path: Path, seed: int, count: int) -> None:
    """Draw the sample, or draw anew those whose line has gone from the tree before they were tried."""
    rooms = sources(PROJECT_ROOT)
    if not path.exists():
        entries = [_entry(one, rooms[one.room][one.path]) for one in draw(rooms, count, seed)]
        lines = {room: sum(map(lines_of, texts.values())) for room, texts in rooms.items()}
        Record(seed=seed, asked=count, lines=lines, entries=entries).write(path)
    with changing(path) as record:
        taken = {(entry.path, entry.text) for entry in record.entries}
        for place, entry in enumerate(record.entries):
            if entry.outcome or entry.mutation_in(rooms[entry.room].get(entry.path, "")) is not None:
                continue
            other = draw_another(rooms[entry.room], taken, entry.room, entry.number, record.seed)
            record.entries[place] = _entry(other, rooms[other.room][other.path])
            record.entries[place].redrawn = True
            say(f"{entry.number}: its line is gone from {entry.path}; drawn anew: {other.path}:{other.mutation.line}")
            taken.add((other.path, record.entries[place].text))


def _entry(one: Drawn, source: str) -> Entry:
    mutation = one.mutation
    return Entry(
        number=one.number,
        room=one.room,
        path=one.path,
        line=mutation.line,
        kind=mutation.kind,
        before=mutation.before,
        after=mutation.after,
        text=source.splitlines()[mutation.line - 1].strip(),
    )


def _in_words(entry: Entry, done: int, of: int) -> str:
    outcome = (
        f"found since, by {entry.later}" if entry.later else entry.outcome + (f" by {entry.by}" if entry.by else "")
    )
    left = f", {entry.left_out} tests left out" if entry.left_out else ""
    return f"{done} of {of}: {entry.number} {entry.path}:{entry.line} {entry.kind}: {outcome} ({entry.seconds} s{left})"


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
    with changing(path) as record:
        entry = record.of(number)
        entry.judgement, entry.equivalent = judgement, equivalent


if __name__ == "__main__":
    main()
