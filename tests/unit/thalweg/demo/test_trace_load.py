import gzip
import os
from itertools import islice
from pathlib import Path

import pytest

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.demo.trace_load import trace_messages
from thalweg.replay.traces import TraceError
from thalweg.streams.placement.requests import read_request

DATA = Path(os.environ.get("THALWEG_DATA", PROJECT_ROOT / ".." / "shared" / "data"))
NO_DATA = pytest.mark.skipif(not (DATA / "openb").is_dir(), reason=f"the traces are not in {DATA} (THALWEG_DATA)")
REGIONS = ("aws:us-east-1", "gcp:us-central1-a")

OPENB = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
late,12000,16384,1,1000,,LS,Running,200,500,200
share,6000,12288,1,460,V100M16|V100M32,BE,Running,100,150,100
none,4000,1024,0,0,,LS,Running,100,,100
eight,64000,262144,8,1000,P100,LS,Running,150,250,150
"""
PHILLY = """timestamp,duration,num_gpus,gpu_time,cluster
2017-10-09 07:00:00,60.0,1,60.0,big
2017-10-09 06:00:00,30.0,16,480.0,small
2017-10-09 08:00:00,0.0,12,0.0,big
"""


def read(
    tmp_path: Path, text: str, name: str = "trace.csv", **options: float | None
) -> tuple[list[dict], list[float], float]:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    stream, scale, _ = trace_messages(path, REGIONS, **({"rate_per_s": 1.0, "time_scale": None} | options))
    sent = list(stream)
    return [message.content for message in sent], [message.due_s for message in sent], scale  # type: ignore[misc]


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_openb_pods_become_tasks_in_order_of_arrival(tmp_path: Path, name: str) -> None:
    tasks, due, scale = read(tmp_path, OPENB, name, time_scale=10)
    assert [task["task_id"] for task in tasks] == ["none", "share", "eight", "late"]
    assert due == [0, 0, 5, 10]
    assert scale == 10
    by_id = {task["task_id"]: task for task in tasks}
    assert by_id["share"]["per_worker"] == {"cpus": 6, "memory_gb": 12, "gpu_milli": 460, "gpu_models": ["V100"]}
    assert by_id["eight"]["per_worker"] == {"cpus": 64, "memory_gb": 256, "gpus": 8}
    assert (by_id["share"]["expected_s"], by_id["none"]["expected_s"]) == (50, 3600)
    assert by_id["share"]["spot_ok"] and not by_id["late"]["spot_ok"]


def test_philly_jobs_become_gangs_at_home_in_a_region(tmp_path: Path) -> None:
    tasks, due, _ = read(tmp_path, PHILLY, time_scale=3600)
    assert due == [0, 1, 2]
    assert [(task["workers"], task["per_worker"]["gpus"]) for task in tasks] == [(2, 8), (1, 1), (2, 6)]
    assert [task["origin_region"] for task in tasks] == [REGIONS[1], REGIONS[0], REGIONS[0]]
    assert tasks[2]["expected_s"] == 1


def test_without_a_time_scale_the_mean_rate_is_as_asked(tmp_path: Path) -> None:
    _, due, scale = read(tmp_path, OPENB, rate_per_s=2.0)
    assert scale == pytest.approx(100 / 4 * 2)
    assert len(due) / due[-1] == pytest.approx(2.0)


def test_without_a_time_scale_the_replay_begins_where_the_trace_is_busiest(tmp_path: Path) -> None:
    header = OPENB.splitlines()[0]
    times = [0, 5_000, *range(10_000, 10_100)]
    rows = [f"p{at},1000,1024,1,1000,,LS,Running,{at},{at + 60},{at}" for at in times]
    tasks, due, scale = read(tmp_path, "\n".join([header, *rows]), rate_per_s=1.0)
    assert tasks[0]["task_id"] == "p10000"
    assert scale == 1.0
    assert due[:3] == [0, 1, 2]
    tasks, _, _ = read(tmp_path, "\n".join([header, *rows]), time_scale=10)
    assert tasks[0]["task_id"] == "p0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "columns a, b; known are the openb pod list"),
        ("", "columns none"),
        (OPENB.replace("12000", "many"), "line 2: .*many"),
        (PHILLY.replace("2017-10-09 08:00:00", "yesterday"), "line 4: .*yesterday"),
    ],
)
def test_what_is_no_trace_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        read(tmp_path, text)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(OPENB.encode())[:-20])
    with pytest.raises(TraceError, match=r"trace\.csv\.gz"):
        trace_messages(path, REGIONS, rate_per_s=1, time_scale=None)


@NO_DATA
@pytest.mark.parametrize(
    ("file", "count"),
    [("openb/openb_pod_list_default.csv.gz", 8_152), ("philly/philly_jobs_to_2017-11.csv.gz", 74_167)],
)
def test_the_published_traces_are_valid_requests(file: str, count: int) -> None:
    stream, _, source = trace_messages(DATA / file, REGIONS, rate_per_s=50, time_scale=None)
    assert 0 < int(source.split()[2].replace(",", "")) <= count
    sent = list(islice(stream, 3_000))
    for message in sent:
        read_request(message.value(1))
    assert len({message.task_id for message in sent}) == len(sent)
