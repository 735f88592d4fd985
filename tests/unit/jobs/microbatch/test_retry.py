"""A step that the world outside prevents is tried again, and whoever looks at the job learns what it waits for."""

from thalweg.jobs.microbatch.outcome import BatchStep
from thalweg.jobs.microbatch.retry import Retry
from thalweg.jobs.runtime.health import HINDERED_S, Pulse
from thalweg.jobs.runtime.job import Stop


class Watched(Stop):
    """Time passes while it waits; notes what an operator would read."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.pulse = Pulse(lambda: self.now_s)
        self.seen: list[str | None] = []

    def wait(self, seconds: float) -> bool:
        self.now_s += HINDERED_S
        self.seen.append(self.pulse.trouble("place"))
        return False


def test_what_a_step_waits_for_is_told_until_it_is_done() -> None:
    watched, tries = Watched(), iter([OSError("No space left on device"), OSError("No space left on device"), None])

    def act() -> None:
        error = next(tries)
        if error is not None:
            raise error

    Retry("place", watched, watched.pulse).until_done("ledger", BatchStep(act=act, target="the ledger"))
    assert [(words or "").partition(" (")[0] for words in watched.seen] == [
        "place stands still: the ledger cannot be written",
        "place stands still: the ledger cannot be written",
    ]
    watched.now_s += HINDERED_S
    assert watched.pulse.trouble("place") is None
