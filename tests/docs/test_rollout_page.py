"""docs/measurements/rollout.md and response-time.md say what was recorded."""

import json

import msgspec

from thalweg.benchmarks.response import response_pages
from thalweg.benchmarks.rollout import rollout_pages
from thalweg.federation.rollout_campaign import RolloutRecord


def test_the_page_of_roll_outs_and_its_picture_show_the_records() -> None:
    kept = msgspec.json.decode(rollout_pages.CAMPAIGN.read_bytes(), type=RolloutRecord)
    front = json.loads(rollout_pages.newest().read_text(encoding="utf-8"))
    text = rollout_pages.PAGE.read_text(encoding="utf-8")
    block = rollout_pages.measured(kept, front, rollout_pages.newest().name)
    assert text == rollout_pages.filled(text, block), "python -m thalweg.benchmarks.rollout.rollout_pages"
    assert rollout_pages.PICTURE.read_text(encoding="utf-8") == rollout_pages.picture(front["soak"])


def test_the_page_of_response_times_and_its_picture_show_the_record() -> None:
    result = json.loads(response_pages.newest().read_text(encoding="utf-8"))
    text = response_pages.PAGE.read_text(encoding="utf-8")
    block = response_pages.measured(result, response_pages.newest().name)
    assert text == response_pages.filled(text, block), "python -m thalweg.benchmarks.response.response_pages"
    assert response_pages.PICTURE.read_text(encoding="utf-8") == response_pages.picture(result)
