"""`bench response`: what is fitted to answers whose times are known, and that the server is really asked."""

import pytest

from thalweg.benchmarks.response.response import Answered, ResponseSize, fitted, measure, table


def test_both_models_find_what_made_the_answers() -> None:
    made = [
        Answered(distance_ms=d, queue=b, response_ms=1.5 * d + 20.0 * b + 3.0)
        for d in (0.0, 40.0, 160.0)
        for b in (1, 2, 5)
    ]
    found = fitted(made)
    assert (found["sum_alpha"], found["sum_beta_ms"], found["sum_rest_ms"]) == pytest.approx((1.5, 20.0, 3.0))
    assert found["sum_r2"] == pytest.approx(1.0) and found["sum_error_p95_ms"] < 0.01
    assert found["alpha"] == pytest.approx(1.5 + 23 / 160, abs=1e-3) and found["beta_ms"] == pytest.approx(20.6)
    assert found["bound_of_response_least"] < found["bound_of_response_median"] <= 1
    assert table(made)[0] == {"distance_ms": 0.0, "queue": 1, "requests": 1, "response_ms": 23.0}


def test_a_server_answers_every_request_and_none_before_its_way_and_its_service() -> None:
    found = measure(ResponseSize(requests=20, service_ms=2.0, distances_ms="0,5"))
    assert found["requests"] == 20 and found["alpha"] >= 1 and found["beta_ms"] > 0
    assert sum(cell["requests"] for cell in found["by_distance_and_queue"]) == 20
