"""What is said again and again is said once in a while."""

import logging

from thalweg.conf.log_pace import KafkaChatter, Paced


def line(words: str, at_s: float, name: str = "kafka.net.manager") -> logging.LogRecord:
    record = logging.LogRecord(name, logging.WARNING, "file", 1, words, None, None)
    record.created = at_s
    return record


def heard(lines: list[logging.LogRecord], using: logging.Filter) -> list[str]:
    return [record.getMessage() for record in lines if using.filter(record)]


def test_lines_that_differ_in_numbers_alone_are_one_until_it_is_time() -> None:
    lines = [line(f"node 1 failed after {tries} tries", at) for tries, at in ((1, 0.0), (2, 1.0), (3, 9.9), (4, 10.1))]
    assert heard(lines, Paced(10)) == ["node 1 failed after 1 tries", "node 1 failed after 4 tries"]


def test_other_words_are_another_line() -> None:
    assert heard([line("a", 0.0), line("b", 0.1), line("a", 0.2)], Paced(10)) == ["a", "b"]


def test_a_clock_that_was_set_back_silences_nothing() -> None:
    assert heard([line("a", 1_000.0), line("a", 1.0)], Paced(10)) == ["a", "a"]


def test_a_broker_that_is_away_is_a_line_every_few_seconds_whoever_says_so() -> None:
    names = ("kafka.net.manager", "kafka.net.connection", "kafka.cluster", "kafka.producer.sender")
    lines = [line(f"{names[i % 4]}: try {i} of client {chr(97 + i % 7)}", i * 0.25, names[i % 4]) for i in range(80)]
    assert len(heard(lines, KafkaChatter())) == 4  # in 20 s


def test_how_long_its_own_loop_took_is_nobodys_concern() -> None:
    words = ["Task <x> ran for 0.120s (>0.1s threshold). It is blocking", "group_id is None: disabling auto-commit."]
    assert heard([line(text, 0.0, "kafka.net.selector") for text in words], KafkaChatter()) == []


def test_our_own_lines_are_never_held_back() -> None:
    assert len(heard([line("a", 0.0, "thalweg.agent")] * 3, KafkaChatter())) == 3
