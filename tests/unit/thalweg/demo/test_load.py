from collections import Counter
from itertools import islice

import pytest

from thalweg.agent.figures import load_figures
from thalweg.demo.load import MALFORMED, Message, MessageKind, Mixture, duration_s, messages
from thalweg.streams.placement.requests import RequestError, read_request

REGIONS = load_figures().regions[:8]


def some(count: int, seed: int = 0, mixture: Mixture | None = None) -> list[Message]:
    stream = messages(load_figures(), REGIONS, rate_per_s=50, seed=seed, run="r", mixture=mixture)
    return list(islice(stream, count))


def test_the_same_seed_sends_the_same_messages_and_another_does_not() -> None:
    assert some(500) == some(500)
    assert some(500) != some(500, seed=1)


def test_messages_come_in_order_of_time_at_the_rate_asked_for() -> None:
    sent = some(5_000)
    times = [message.due_s for message in sent]
    assert times == sorted(times)
    assert sum(message.kind is MessageKind.TASK for message in sent) / times[-1] == pytest.approx(50, rel=0.05)


def test_every_task_is_a_valid_request_and_every_malformed_message_is_not() -> None:
    sent = some(3_000)
    assert {message.kind for message in sent} == set(MessageKind)
    for message in sent:
        if message.kind is MessageKind.MALFORMED:
            with pytest.raises(RequestError):
                read_request(message.value(1))
        else:
            assert read_request(message.value(1)).task_id == message.task_id


@pytest.mark.parametrize("raw", MALFORMED)
def test_each_kind_of_malformed_message_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError):
        read_request(raw)


def test_repetitions_and_cancellations_come_after_their_task() -> None:
    seen: set[str] = set()
    for message in some(5_000):
        if message.kind is MessageKind.TASK:
            seen.add(message.task_id)
        elif message.kind in (MessageKind.REPEATED, MessageKind.CANCEL):
            assert message.task_id in seen


def test_tasks_have_the_published_popularity() -> None:
    figures = load_figures()
    sent = [message.content for message in some(8_000) if message.kind is MessageKind.TASK]
    counted = Counter((one["per_worker"]["cpus"], one["per_worker"].get("gpu_milli", 0)) for one in sent)  # type: ignore[index]
    most = max(figures.shapes, key=lambda shape: shape.count)
    share = most.count / sum(shape.count for shape in figures.shapes)
    assert counted[most.cpus, most.gpu_milli] / len(sent) == pytest.approx(share, rel=0.15)


def test_every_resident_task_has_a_region_and_a_replicated_one_two() -> None:
    for message in some(5_000):
        content = message.content
        if isinstance(content, dict):
            assert set(content.get("allowed_regions", REGIONS)) <= set(REGIONS)
            assert len(content.get("allowed_regions", REGIONS)) >= content.get("replicas", 1)
            assert content.get("origin_region", REGIONS[0]) in content.get("allowed_regions", REGIONS) or (
                "origin_region" not in content
            )


def test_durations_follow_their_quantiles() -> None:
    quantiles = [10.0, 20.0, 40.0, 80.0]
    assert duration_s(quantiles, 0.0) == 10
    assert duration_s(quantiles, 0.125) == 10
    assert duration_s(quantiles, 0.5) == pytest.approx(30)
    assert duration_s(quantiles, 0.9999) == 80
