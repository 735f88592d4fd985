"""What a stack says while it starts."""

from thalweg.stack.telling import AddressTold, Progress


def test_words_of_progress_are_passed_on_once_in_a_while() -> None:
    said: list[str] = []
    now = [0.0]
    progress = Progress(said.append, lambda: now[0])
    for at, words in ((0.0, ""), (0.1, "3 of 40 kernels"), (1.0, "4 of 40 kernels"), (6.0, "9 of 40 kernels")):
        now[0] = at
        progress.told("jobs", words)
    progress.told("place-1", "stands by")
    assert said == ["jobs: 3 of 40 kernels", "jobs: 9 of 40 kernels", "place-1: stands by"]


def test_another_port_than_the_last_runs_is_said_once() -> None:
    said: list[str] = []
    told = AddressTold(9092, said.append)
    for port in (9092, 21123, 21123):
        told.look(port)
    (words,) = said
    assert words.startswith("Kafka is at 127.0.0.1:21123 now, no more at 127.0.0.1:9092")
    assert "writes to whoever that is" in words


def test_a_first_run_has_nothing_to_compare() -> None:
    said: list[str] = []
    told = AddressTold(None, said.append)
    told.look(9092)
    assert said == []
