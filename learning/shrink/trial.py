"""Models on held-out samples: how often they are right, and how long one answer takes, measured in turns.

In turns, because a machine is quicker at one moment than at another: each sample goes to all models before the next one
does, and who goes first changes. By processor time, because others use the machine. The model as it was takes part
twice: what its two quantiles differ by is what the measurement cannot tell apart, and a small model no slower than the
slower one is no worse.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from thalweg.learning.local.network import Features
from thalweg.learning.shrink.gate import Measured
from thalweg.learning.shrink.sources import INPUT, SourceError

Timer = Callable[[], int]
"""Processor time of this thread, in nanoseconds."""
Truth = npt.NDArray[np.generic]
"""[samples] the class of each, a number or a word."""
_WARM: Final = 50


def opened(raw: bytes) -> ort.InferenceSession:
    """Open a model for this thread alone."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def accuracy(session: ort.InferenceSession, x: Features, y: Truth) -> float:
    """Share of the samples whose class is named; the first output is the class.

    Raises:
        SourceError: the model takes something else, or names no classes.
    """
    (asked, *others) = session.get_inputs()
    if others or asked.name != INPUT or asked.type != "tensor(float)":
        raise SourceError(f"the model asks for {asked.name} {asked.type}: allowed is one input {INPUT!r} of float32")
    try:
        named = np.asarray(session.run([session.get_outputs()[0].name], {INPUT: x})[0])
    except Exception as error:  # ONNX Runtime's own errors share no class but this
        raise SourceError(f"the model does not take these samples: {str(error)[:300]}") from error
    if named.shape != y.shape:
        raise SourceError(f"the model's first output is {named.shape}: allowed is a class for each of {y.shape}")
    return float(np.mean(named.astype(str) == y.astype(str)))


def measured(full: bytes, small: bytes, x: Features, y: Truth, repeats: int, timer: Timer) -> tuple[Measured, Measured]:
    """Measure a model and a small one of it.

    Args:
        full: the model as it was, ONNX.
        small: the small one, ONNX.
        x: held-out samples.
        y: their classes.
        repeats: answers of each that are timed.
        timer: processor time.
    """
    sessions = [opened(full), opened(full), opened(small)]
    times = _in_turns(sessions, x, repeats, timer)
    p50, p99 = (np.quantile(times, share, axis=1, method="higher") / 1_000 for share in (0.5, 0.99))
    return (
        Measured(
            size_bytes=len(full),
            accuracy=accuracy(sessions[0], x, y),
            p50_us=float(max(p50[:2])),
            p99_us=float(max(p99[:2])),
        ),
        Measured(
            size_bytes=len(small), accuracy=accuracy(sessions[2], x, y), p50_us=float(p50[2]), p99_us=float(p99[2])
        ),
    )


def _in_turns(
    sessions: Sequence[ort.InferenceSession], x: Features, repeats: int, timer: Timer
) -> npt.NDArray[np.int64]:
    """Time single answers: [models, repeats], nanoseconds."""
    times = np.zeros((len(sessions), repeats), np.int64)
    rows = [{INPUT: x[number : number + 1]} for number in range(min(len(x), repeats))]
    for session in sessions:
        for number in range(_WARM):
            session.run(None, rows[number % len(rows)])
    for turn in range(repeats):
        row = rows[turn % len(rows)]
        for place in range(len(sessions)):
            index = (turn + place) % len(sessions)
            began = timer()
            sessions[index].run(None, row)
            times[index, turn] = timer() - began
    return times
