"""Traces as other people's tools write them: what is no number, no row or no archive is named with file and line."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from thalweg.replay.traces import TraceError, read_openb_nodes, read_openb_pods, read_philly_jobs

PHILLY = "timestamp,duration,num_gpus,cluster\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time\n"


def philly(tmp_path: Path, row: str, header: str = PHILLY) -> Path:
    path = tmp_path / "jobs.csv"
    path.write_text(header + row + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("2017-10-09 08:00:00,nan,1,a", "line 2: duration is 'nan', seconds >= 0"),
        ("2017-10-09 08:00:00,inf,1,a", "line 2: duration is 'inf'"),
        ("2017-10-09 08:00:00,-1,1,a", "line 2: duration is '-1'"),
        ("2017-10-09 08:00:00,1_0 s,1,a", "line 2: duration"),
        ("2017-10-09 08:00:00,1,nan,a", "line 2: num_gpus is 'nan', a whole number"),
        ("2017-10-09 08:00:00,1,inf,a", "line 2: num_gpus is 'inf'"),
        ("2017-10-09 08:00:00,1,1e300,a", "line 2: num_gpus is '1e300'"),
        ("2017-10-09 08:00:00,1,1.5,a", "line 2: num_gpus is '1.5'"),
        ("2017-10-09 08:00:00 CEST,1,1,a", "line 2: timestamp"),
        ("0001-01-01 00:00:00+23:00,1,1,a", "line 2: timestamp"),
        ("2017-10-09 08:00:00,1,1", "line 2: not as many values"),
    ],
)
def test_a_row_that_is_no_job_is_named(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(TraceError, match=f"jobs.csv {words}"):
        read_philly_jobs(philly(tmp_path, row))


def test_an_offset_counts_and_without_one_it_is_utc(tmp_path: Path) -> None:
    (job,) = read_philly_jobs(philly(tmp_path, "2017-10-09 08:00:00+02:00,1,1,a"))
    assert job.submitted_at == datetime(2017, 10, 9, 6, tzinfo=UTC)
    (job,) = read_philly_jobs(philly(tmp_path, "2017-10-09 08:00:00,1,1,a"))
    assert job.submitted_at == datetime(2017, 10, 9, 8, tzinfo=UTC)


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    (job,) = read_philly_jobs(philly(tmp_path, "2017-10-09 08:00:00,1,1,a", "\ufeff" + PHILLY))
    assert job.cluster == "a"


@pytest.mark.parametrize("spec", ["", "nan", "NaN"])
def test_no_model_is_any_model_however_it_is_written(tmp_path: Path, spec: str) -> None:
    path = tmp_path / "pods.csv"
    path.write_text(f"{PODS}p,1000,1024,1,1000,{spec},0\n")
    (pod,) = read_openb_pods(path)
    assert pod.gpu_models == frozenset()


@pytest.mark.parametrize("keep", [slice(0, -20), slice(0, 30)])
def test_a_damaged_archive_is_named(tmp_path: Path, keep: slice) -> None:
    path = tmp_path / "pods.csv.gz"
    rows = "".join(f"p{n},{n * 7919 % 1000},1024,1,1000,,{n}\n" for n in range(2_000))
    path.write_bytes(gzip.compress((PODS + rows).encode())[keep])
    with pytest.raises(TraceError, match=r"pods\.csv\.gz cannot be read"):
        read_openb_pods(path)


def test_bytes_flipped_in_an_archive_are_named(tmp_path: Path) -> None:
    path = tmp_path / "nodes.csv.gz"
    raw = bytearray(gzip.compress(("sn,cpu_milli,memory_mib,gpu,model\n" + "a,1,1,1,T4\n" * 5_000).encode()))
    for place in range(20, 40):
        raw[place] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(TraceError):
        read_openb_nodes(path)


def test_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_bytes((PHILLY + "x").encode("utf-16"))
    with pytest.raises(TraceError, match="cannot be read"):
        read_philly_jobs(path)
