"""`thalweg pack` on small files, on broken ones, and on the public trace where it is present."""

import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.cli.pack_command import pack
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.replay.openb import pack_here, pack_trace
from thalweg.replay.traces import TraceError, read_openb_nodes, read_openb_pods, read_philly_jobs
from thalweg.scheduling.pack.regions import RegionSlots, RegionWork

DATA = Path(os.environ.get("THALWEG_DATA", PROJECT_ROOT / ".." / "shared" / "data"))
NO_DATA = pytest.mark.skipif(not (DATA / "openb").is_dir(), reason=f"the traces are not in {DATA} (THALWEG_DATA)")
FIELDS = (
    "nodes", "gpus", "pods", "failed_pods", "moved_pods", "allocation_at_100", "allocation", "unallocated_gpus",
    "seconds", "placements_per_second", "violations",
)  # fmt: skip
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,64000,262144,2,T4\nn2,64000,262144,4,G2\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\nb,1000,10,1,500,T4\na,1000,10,1,1000,\nc,900,9,0,0,\n"


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(pack, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def files(folder: Path, nodes: str = NODES, pods: str = PODS) -> list[str]:
    (folder / "nodes.csv").write_text(nodes)
    with gzip.open(folder / "pods.csv.gz", "wt") as out:
        out.write(pods)
    return ["--nodes", str(folder / "nodes.csv"), "--pods", str(folder / "pods.csv.gz")]


def test_it_prints_every_promised_field_and_the_same_again(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        code, out, _ = call(*files(tmp_path), "--seed", "7", "--json")
        assert code == 0
        result = json.loads(out)
        assert set(FIELDS) <= result.keys()
        seen.append({k: v for k, v in result.items() if k not in ("seconds", "placements_per_second")})
    assert seen[0] == seen[1]
    assert seen[0]["gpus"] == 6 and seen[0]["violations"] == 0
    assert 80 <= seen[0]["allocation"] <= 100


@pytest.mark.parametrize(
    ("nodes", "pods", "told"),
    [
        (NODES.replace("64000", "much"), PODS, "line 2: cpu_milli is 'much'"),
        (NODES, PODS.replace("gpu_milli", "milli"), "has no column gpu_milli"),
        (NODES, PODS.replace("500", "1500"), "1..1000"),
        (NODES, PODS.replace("500", "-5"), "line 2: gpu_milli is '-5'"),
        (NODES, PODS + "d,1\n", "not as many values"),
        (NODES.replace("n2", "n1"), PODS, "not distinct"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path: Path, nodes: str, pods: str, told: str) -> None:
    code, out, err = call(*files(tmp_path, nodes, pods), "--json")
    assert code == 2
    assert told in err
    assert out == ""


def test_no_nodes_or_no_pods_is_a_result(tmp_path: Path) -> None:
    code, out, _ = call(*files(tmp_path, NODES.splitlines()[0] + "\n"), "--json")
    assert code == 0 and json.loads(out)["allocation"] == 0.0
    code, out, _ = call(*files(tmp_path, NODES, PODS.splitlines()[0] + "\n"), "--json")
    assert code == 0 and json.loads(out)["pods"] == 0


def test_several_regions_share_nodes_and_arrivals_and_each_is_packed_alone(tmp_path: Path) -> None:
    nodes = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(
        f"n{at},64000,262144,4,{'T4' if at < 5 else 'G2'}\n" for at in range(6)
    )
    machines = read_openb_nodes(Path(files(tmp_path, nodes)[1]))
    pods = read_openb_pods(tmp_path / "pods.csv.gz")
    packed: list[RegionWork] = []

    def noting(works: Sequence[RegionWork]) -> list[RegionSlots]:
        packed.extend(works)
        return pack_here(works)

    result = pack_trace(machines, pods, seed=3, arrive=0.9, regions=3, pack_all=noting)
    assert (result["nodes"], result["gpus"], result["regions"], result["violations"]) == (6, 24, 3, 0)
    assert [(work.region, work.rows.tolist()) for work in packed] == [
        ("openb-000", [0, 3]),
        ("openb-001", [1, 4]),
        ("openb-002", [2, 5]),
    ]
    assert sum(len(work.requests) for work in packed) == result["pods"]
    assert result["failed_pods"] < result["pods"] / 3  # a region may be dealt more than it holds


def test_a_pod_that_names_a_model_that_is_nowhere_is_refused_and_the_rest_is_packed(tmp_path: Path) -> None:
    code, out, _ = call(*files(tmp_path, pods=PODS.replace("T4", "H100")), "--regions", "2", "--json")
    assert code == 0
    result = json.loads(out)
    assert 0 < result["failed_pods"] < result["pods"] and result["violations"] == 0


@NO_DATA
def test_the_public_trace_is_packed_as_well_as_promised() -> None:
    openb = DATA / "openb"
    arguments = ["--nodes", str(openb / "openb_node_list_gpu_node.csv.gz"), "--json", "--seed", "42"]
    code, out, _ = call(*arguments, "--pods", str(openb / "openb_pod_list_default.csv.gz"))
    fill = json.loads(out)
    assert code == 0
    assert (fill["nodes"], fill["gpus"], fill["pods"], fill["violations"]) == (1213, 6212, 10771, 0)
    assert fill["allocation"] >= 96.2
    _, out, _ = call(*arguments, "--pods", str(openb / "openb_pod_list_default.csv.gz"), "--rule", "fgd")
    fgd = json.loads(out)
    assert 95.0 <= fgd["allocation"] <= 95.8  # the published mean is 95.39
    assert fill["failed_pods"] < fgd["failed_pods"]


@NO_DATA
def test_all_philly_jobs_are_read() -> None:
    jobs = read_philly_jobs(DATA / "philly" / "philly_jobs_to_2017-11.csv.gz")
    assert len(jobs) == 74167
    assert jobs[0].duration_s == 66.0 and jobs[0].gpus == 1 and jobs[0].cluster == "11cb48"


@NO_DATA
def test_a_model_wish_is_read_as_a_set() -> None:
    pods = read_openb_pods(DATA / "openb" / "openb_pod_list_gpuspec10.csv.gz")
    assert frozenset({"V100M16", "V100M32"}) in {pod.gpu_models for pod in pods}


def test_a_file_that_is_no_gzip_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_text("no gzip")
    with pytest.raises(TraceError, match="cannot be read"):
        read_openb_pods(tmp_path / "x.csv.gz")
