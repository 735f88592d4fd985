"""What a run is told when it starts; it never changes."""

from dataclasses import asdict, dataclass
from typing import Final

from thalweg.learning.aggregates.robust import AGGREGATES
from thalweg.learning.aggregates.strategies import STRATEGIES, Combining, Strategy
from thalweg.learning.codecs.codec import Codec, CodecError, parse_codec
from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.secrecy.fixed_point import MOST_WEIGHT
from thalweg.learning.secrecy.secret_terms import SecrecyTerms

MOST_MISSED: Final = 10
"""Rounds in a row without a quorum after which a run ends: whoever should take part is not there."""
MOST_SAMPLES: Final = 1_000_000
"""That one participant may claim where a run says nothing."""
LEAST_SECRET: Final = 3
"""Updates of which a sum may be made where they are secret: of two, each of them knows the other's."""


class RunSpecError(ValueError):
    """A run cannot be carried out as it is described; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run of one model."""

    parameters: int
    """How many numbers the model has."""
    rounds: int
    """Versions to be made."""
    quorum: int = 1
    """Updates without which a round makes no version, and participants without which none opens."""
    begin_with: int = 0
    """Participants that the first round waits for; 0 begins with a quorum."""
    per_round: int = 0
    """Participants called into a round; 0 calls all."""
    deadline_ms: int = 60_000
    """How long a round waits for them."""
    strategy: str = "fedavg"
    aggregate: str = "mean"
    liars: float = 0.0
    """Share of a round's updates that may be lies, for the aggregates that bear some."""
    codec: str = "whole"
    """How updates are written."""
    downlink: str = "whole"
    """How versions are told: `whole`, or as a change of the last one, written by a codec that leaves no number out."""
    buffer: int = 10
    """Of `fedbuff`: updates that make a version."""
    most_stale: int = 20
    """Of `fedbuff`: versions that an update may be behind."""
    most_samples: int = MOST_SAMPLES
    """Samples that one participant may claim: what it claims is its weight."""
    signed: bool = False
    """Whether only participants with a key may join."""
    seed: int = 0
    """Chooses who is called."""
    privacy: PrivacyTerms | None = None
    secrecy: SecrecyTerms | None = None
    """Where the centre is to see sums of updates only."""

    @property
    def way(self) -> Strategy:
        """The strategy."""
        return STRATEGIES[self.strategy]

    @property
    def size(self) -> int:
        """How many numbers the vector has that is sent and kept."""
        return self.parameters * self.way.parts

    @property
    def writing(self) -> Codec:
        """The codec."""
        return parse_codec(self.codec)

    @property
    def telling(self) -> Codec:
        """The codec of versions."""
        return parse_codec(self.downlink)

    @property
    def combining(self) -> Combining:
        """How updates are combined."""
        return Combining(aggregate=AGGREGATES[self.aggregate], liars=self.liars, whole=not self.writing.delta)

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            RunSpecError: names what was seen and what is allowed.
        """
        if self.strategy not in STRATEGIES:
            raise RunSpecError(f"strategy {self.strategy!r}: allowed are {', '.join(STRATEGIES)}")
        if self.aggregate not in AGGREGATES:
            raise RunSpecError(f"aggregate {self.aggregate!r}: allowed are {', '.join(AGGREGATES)}")
        try:
            codec, telling = self.writing, self.telling
        except CodecError as error:
            raise RunSpecError(str(error)) from error
        if telling.top < 1 or (telling.zstd and not telling.delta):
            raise RunSpecError(
                f"downlink {self.downlink!r}: allowed are `whole` or `delta`, then `+bits=8`, `+bits=4`, `+zstd`; what "
                "`top` left out, nobody would ever be told"
            )
        self._check_numbers()
        if not codec.delta and (self.strategy != "fedavg" or self.aggregate == "clipped" or self.privacy is not None):
            raise RunSpecError(
                f"codec {self.codec!r}: {self.strategy}, aggregate {self.aggregate} and privacy need changes; "
                "write it as `delta`"
            )
        if self.strategy == "fedbuff" and (self.aggregate != "mean" or self.per_round):
            raise RunSpecError("fedbuff takes whoever comes: allowed is aggregate mean, and no per_round")
        if self.aggregate == "krum" and self.quorum < self.quorum * self.liars + 3:
            raise RunSpecError(f"krum with a share of {self.liars:g} liars: a quorum of {self.quorum} is too small")
        if self.privacy is not None and (self.strategy, self.aggregate, self.per_round) != ("fedavg", "mean", 0):
            raise RunSpecError("privacy goes with fedavg and aggregate mean, and calls by its sample_rate")
        if self.secrecy is not None:
            self._check_secrecy(self.secrecy)

    def _check_secrecy(self, secrecy: SecrecyTerms) -> None:
        if (self.strategy, self.aggregate, self.codec, self.privacy) != ("fedavg", "mean", "delta", None):
            raise RunSpecError("secret updates go with fedavg, aggregate mean and codec delta, and not with privacy")
        if self.quorum < LEAST_SECRET:
            raise RunSpecError(f"quorum {self.quorum}: where updates are secret at least {LEAST_SECRET} are needed")
        if not (0 < secrecy.largest < float("inf") and 0.5 < secrecy.threshold <= 1):
            raise RunSpecError(f"secrecy ({_said(secrecy)}): allowed are largest above 0, threshold above 0.5 to 1")
        if secrecy.neighbours < 0 or secrecy.neighbours % 2:
            raise RunSpecError(
                f"secrecy ({_said(secrecy)}): allowed are an even number of neighbours, and 0 for everybody"
            )
        self.check_called(max(self.quorum, self.begin_with))

    def check_called(self, called: int) -> None:
        """Refuse, where updates are secret, a round of so many that their sum does not fit.

        Raises:
            RunSpecError: names what was seen and what is allowed.
        """
        if self.secrecy is not None and called * self.most_samples >= MOST_WEIGHT:
            raise RunSpecError(
                f"{called} participants of up to {self.most_samples} samples: their product must be below "
                f"{MOST_WEIGHT}; say most_samples"
            )

    def _check_numbers(self) -> None:
        for name, least, most in (
            ("parameters", 1, 100_000_000),
            ("rounds", 1, 1_000_000),
            ("quorum", 1, 1_000_000),
            ("begin_with", 0, 20_000),
            ("per_round", 0, 1_000_000),
            ("deadline_ms", 1, 30 * 86_400_000),
            ("liars", 0, 0.49),
            ("buffer", 1, 100_000),
            ("most_stale", 0, 1_000_000),
            ("most_samples", 1, 2**29 - 1),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise RunSpecError(f"{name} {value}: allowed are {least} to {most}")
        if self.per_round and self.per_round < self.quorum:
            raise RunSpecError(f"per_round {self.per_round}: allowed is 0, or at least the quorum of {self.quorum}")
        if (terms := self.privacy) is not None:
            positive = (terms.clip_norm, terms.noise_multiplier, terms.budget_epsilon)
            if not (min(positive) > 0 and 0 < terms.sample_rate <= 1 and 0 < terms.delta < 1):
                raise RunSpecError(
                    f"privacy ({_said(terms)}): allowed are clip_norm, noise_multiplier and budget_epsilon above 0, "
                    "sample_rate above 0 to 1, delta between 0 and 1"
                )


def _said(terms: PrivacyTerms | SecrecyTerms) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in asdict(terms).items())
