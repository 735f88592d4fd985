"""A region's samples as they leave it: all of them, or what a declaration makes of them (`thalweg.edge`)."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from thalweg.edge.declaration import Declaration, DeclarationError
from thalweg.edge.preparation import Preparation
from thalweg.streams.contract.messages import Sample

MEASURED: Final = frozenset(
    {
        "gpu_utilisation", "cpu_utilisation", "memory_used_gb", "rtt_ms", "gbps", "usd_per_gb", "usd_per_gpu_hour",
    }
)  # fmt: skip
"""What may be summed up. The other fields say what there is, which is placed by."""
WITHIN: Final = frozenset({"last", "mean", "min", "max", "p50", "p90", "p95", "p99"})
"""Figures that are no larger than the largest number nor smaller than the smallest, so that a share stays one."""
AT_ONCE: Final = ("state", "gpu_model", "spot", "gpus", "cpus", "memory_gb")
"""A change of these never waits, whatever is declared: tasks are placed by them."""


def checked_for_samples(declaration: Declaration) -> Declaration:
    """Return the declaration as it is carried out for samples.

    Raises:
        DeclarationError: it would make samples that nobody believes.
    """
    if declaration.thing or declaration.time is not None:
        raise DeclarationError("thing and time are of files: what a sample is of, and when, is known")
    if strangers := sorted(declaration.figures.keys() - MEASURED):
        raise DeclarationError(f"a figure of {strangers[0]}: allowed are those of {', '.join(sorted(MEASURED))}")
    if others := sorted(set(declaration.figures.values()) - WITHIN):
        raise DeclarationError(f"figure {others[0]} of a sample: allowed are {', '.join(sorted(WITHIN))}")
    return msgspec.structs.replace(declaration, at_once=(*AT_ONCE, *(set(declaration.at_once) - set(AT_ONCE))))


@dataclass(slots=True, kw_only=True)
class Saved:
    """What a preparation has kept from leaving."""

    samples_in: int = 0
    samples_out: int = 0
    bytes_in: int = 0
    """Of the samples as JSON, as they would have left."""
    bytes_out: int = 0

    def note(self, taken: Sequence[Sample], left: Sequence[Sample]) -> None:
        """Count what was taken and what has left of it."""
        self.samples_in += len(taken)
        self.samples_out += len(left)
        self.bytes_in += _bytes(taken)
        self.bytes_out += _bytes(left)


@dataclass(slots=True)
class PreparedSamples:
    """Of one region."""

    saved: Saved = field(default_factory=Saved)
    _preparation: Preparation | None = None

    @property
    def revision(self) -> int | None:
        """Of the declaration that is carried out; None where all samples leave."""
        return None if self._preparation is None else self._preparation.declaration.revision

    def prepare(self, declaration: Declaration | None) -> list[Sample]:
        """Go on by another declaration, or none; return what the one until now still held."""
        current = None if self._preparation is None else self._preparation.declaration
        if declaration == current:
            return []
        held = [] if self._preparation is None else [_sample(row) for row in self._preparation.rest()]
        self._preparation = None if declaration is None else Preparation(declaration)
        self.saved.note((), held)
        return held

    def take(self, samples: Sequence[Sample], at_ms: int) -> list[Sample]:
        """Take samples of one moment, and return those that leave now.

        Args:
            samples: what was observed.
            at_ms: when, milliseconds since 1970.
        """
        if self._preparation is None:
            return list(samples)
        rows = [(_thing(sample), _row(sample, at_ms)) for sample in samples]
        left = [_sample(row) for row in self._preparation.take(rows, at_ms)]
        self.saved.note(samples, left)
        return left

    def rest(self) -> list[Sample]:
        """Return what waits: the agent stops."""
        return self.prepare(None)


def _thing(sample: Sample) -> Hashable:
    of_kind = {
        "node": sample.node_id,
        "link": sample.dst_region,
        "price": (sample.gpu_model, sample.spot),
    }
    return sample.kind, of_kind[sample.kind]


def _row(sample: Sample, at_ms: int) -> dict[str, Any]:
    """Every sample says when it was observed: it may leave later."""
    return {name: value for name in sample.__struct_fields__ if (value := getattr(sample, name)) is not None} | {
        "observed_at": at_ms if sample.observed_at is None else sample.observed_at
    }


def _sample(row: Mapping[str, Any]) -> Sample:
    return Sample(**row)


def _bytes(samples: Sequence[Sample]) -> int:
    return len(msgspec.json.encode(list(samples))) if samples else 0
