"""`thalweg replay` on small files, on a ledger, and on the public trace where it is present."""

import csv
import gzip
import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.cli.replay_command import replay_trace
from thalweg.conf.environment import PROJECT_ROOT

DATA = Path(os.environ.get("THALWEG_DATA", PROJECT_ROOT / ".." / "shared" / "data"))
PHILLY = DATA / "philly" / "philly_jobs_to_2017-11.csv.gz"
NO_DATA = pytest.mark.skipif(not PHILLY.is_file(), reason=f"the traces are not in {DATA} (THALWEG_DATA)")
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,64000,262144,2,T4\nn2,64000,262144,4,G2\n"
PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time\n"
    "a,1000,10,1,500,T4,0,100\nb,1000,10,1,500,T4,10,100\nc,1000,10,2,1000,T4,20,60\nd,900,9,0,0,,30,90\n"
)


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(replay_trace, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def philly(tmp_path: Path) -> Path:
    """Two hundred jobs of three clusters, in Philly's own format."""
    rng = random.Random(3)
    path = tmp_path / "jobs.csv.gz"
    at = datetime(2017, 9, 4, tzinfo=UTC)
    with gzip.open(path, "wt", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["timestamp", "duration", "num_gpus", "gpu_time", "cluster"])
        for _ in range(200):
            gpus, seconds = rng.choice([1, 1, 1, 4]), float(rng.randrange(60, 20_000))
            writer.writerow([f"{at:%Y-%m-%d %H:%M:%S}", seconds, gpus, gpus * seconds, rng.choice("aaab") + "0"])
            at += timedelta(seconds=rng.randrange(10, 1_200))
    return path


def test_policies_stand_side_by_side_and_two_runs_write_the_same_bytes(philly: Path, tmp_path: Path) -> None:
    seen = []
    for name in ("one", "two"):
        code, out, err = call(
            "--trace", "philly", "--jobs", str(philly), "--regions", "2", "--cycle", "600", "--json",
            "--policy", "home", "--policy", "gravity", "--policy", "flow", "--policy", "flow:weights.balance=500",
            "--report", str(tmp_path / name), "--plot", str(tmp_path / f"{name}.svg"),
        )  # fmt: skip
        assert code == 0, err
        document = json.loads(out)
        files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        assert set(files) == {"report.md", "report.json", "report.svg"}
        assert (tmp_path / f"{name}.svg").read_bytes() == files["report.svg"]
        for report in document["policies"]:
            assert report.pop("replay_seconds") >= 0
        assert json.loads(files["report.json"]) == document
        seen.append((document, files))
    assert seen[0] == seen[1]
    document, files = seen[0]
    reports = {report["policy"]: report for report in document["policies"]}
    assert list(reports) == ["home", "gravity", "flow", "flow:weights.balance=500"]
    assert all(report["started"] == 200 for report in reports.values())
    assert reports["home"]["moved_gb"] == 0 < reports["gravity"]["moved_gb"]
    assert reports["home"]["max_demand_by_supply_ratio_to_fleet"] == pytest.approx(document["skew"], abs=1e-3)
    assert reports["flow"]["fingerprint"] != reports["flow:weights.balance=500"]["fingerprint"]
    table = files["report.md"].decode()
    for report in reports.values():
        assert f"{report['wait_mean_s']:,}" in table and f"{report['egress_usd']:,}" in table
        assert all(f"{ratio:.4f}" in table for ratio in report["demand_by_supply"].values())


def test_the_table_has_every_promised_figure(philly: Path) -> None:
    code, out, _ = call("--trace", "philly", "--jobs", str(philly), "--regions", "2")
    assert code == 0
    for figure in (
        "wait_mean_s", "wait_p50_s", "wait_p99_s", "utilisation_percent", "demand/supply a0", "demand/supply b0",
        "compute_usd", "egress_usd", "moves", "preemptions",
    ):  # fmt: skip
        assert figure in out


def test_openb_runs_through_the_packer_and_through_the_planner(tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "pods.csv").write_text(PODS)
    code, out, err = call(
        "--trace", "openb", "--jobs", str(tmp_path / "pods.csv"), "--nodes", str(tmp_path / "nodes.csv"),
        "--policy", "fill", "--policy", "flow", "--cycle", "0", "--json",
    )  # fmt: skip
    assert code == 0, err
    for report in json.loads(out)["policies"]:
        # c needs both T4 of n1, of which a and b hold one until 100: it waits 80 s, nobody else does.
        assert (report["started"], report["wait_mean_s"], report["wait_p50_s"]) == (4, 20.0, 0.0), report["policy"]
        assert report["compute_usd"] == pytest.approx((0.5 * 100 + 0.5 * 90 + 2 * 40) * 2 / 3600, abs=0.01)


def test_the_ledger_is_replayed_beside_what_was_recorded(warehouse: Path) -> None:
    code, out, err = call("--trace", "ledger", "--warehouse", str(warehouse), "--json", "--cycle", "0")
    assert code == 0, err
    document = json.loads(out)
    recorded, replayed = document["policies"]
    assert (recorded["policy"], replayed["policy"]) == ("recorded", "flow")
    assert (recorded["jobs"], recorded["started"]) == (4, 3), "t2 waits in the ledger"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--policy", "fastest"],
            "there is no policy 'fastest' here; there are home, spread, gravity, fifo, sjf, las, las-lost, ftf",
        ),
        (["--policy", "flow:weights.balanse=5"], "balanse"),
        (["--policy", "flow", "--set", "place.window_tasks=-1"], "window_tasks"),
    ],
)
def test_a_wrong_policy_or_setting_is_refused_before_anything_runs(
    philly: Path, arguments: list[str], message: str
) -> None:
    code, _, err = call("--trace", "philly", "--jobs", str(philly), *arguments)
    assert code == 2
    assert message in err


def test_a_missing_file_or_an_empty_ledger_is_said(tmp_path: Path) -> None:
    assert call("--trace", "openb")[0] == 2
    assert "--nodes" in call("--trace", "openb")[2]
    code, _, err = call("--trace", "ledger", "--warehouse", str(tmp_path))
    assert code == 2
    assert "is empty" in err


@NO_DATA
def test_all_usable_philly_jobs_run_within_a_minute() -> None:
    code, out, err = call("--trace", "philly", "--jobs", str(PHILLY), "--all-clusters", "--policy", "gravity", "--json")
    assert code == 0, err
    (report,) = json.loads(out)["policies"]
    assert report["jobs"] == report["started"] == 74_167
    assert report["replay_seconds"] <= 60
