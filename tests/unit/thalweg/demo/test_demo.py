"""What the demo does when the broker is away: nothing it was to send is forgotten, also when the time is over."""

from collections.abc import Sequence
from pathlib import Path

from thalweg.agent.figures import load_figures
from thalweg.conf.settings import Settings
from thalweg.demo.demo import Demo, DemoPlan
from thalweg.demo.load import messages
from thalweg.stack.state import StateFolder
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import OutgoingRecord


class Silent:
    """A screen that shows nothing."""

    def say(self, message: str) -> None: ...

    def show(self, demo: Demo) -> None: ...


class Away:
    """A publisher whose broker does not answer for some calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.taken: list[str] = []

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        if records and self.calls:
            self.calls -= 1
            raise NotAcknowledgedError(len(records), len(records), 1, [], "the broker does not answer")
        self.taken += [(record.key or b"").decode() for record in records]

    def close(self) -> None: ...


def test_requests_that_a_broker_did_not_take_are_sent_in_order_before_the_demo_counts(tmp_path: Path) -> None:
    figures = load_figures()
    regions = figures.regions[:2]
    stream = messages(figures, regions, rate_per_s=50, seed=1, run="t")
    demo = Demo(
        DemoPlan(seconds=1, regions=regions, messages=stream, source="", time_scale=1),
        folder=StateFolder(tmp_path),
        settings=Settings(),
        figures=figures,
        screen=Silent(),
        clock=lambda: 0,
    )
    away = Away(3)
    sent = [next(stream) for _ in range(5)]
    demo._send(away, sent[:3])
    demo._send(away, sent[3:])
    assert away.taken == []
    assert not demo._all_requests_sent(away)
    assert demo._all_requests_sent(away)
    assert away.taken == [message.task_id for message in sent]
    assert demo._all_requests_sent(away)
    assert len(away.taken) == 5  # and not once more
    assert demo.sent.tasks | demo.sent.malformed == set(away.taken)
