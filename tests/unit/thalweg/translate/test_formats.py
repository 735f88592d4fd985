"""Files as they are written elsewhere, and the requests that they become: what is said, and what is told to be lost."""

import os
import subprocess
from textwrap import dedent
from typing import Any

import pytest

from thalweg.client.client import checked_request
from thalweg.translate.recognise import translate
from thalweg.translate.translation import NotUnderstoodError, Translation


def read(text: str) -> Translation:
    return translate(dedent(text).lstrip("\n"))


def one(text: str) -> dict[str, Any]:
    (request,) = read(text).requests
    return request


def lost(text: str) -> dict[str, int | None]:
    """What is not said, with its line."""
    return {loss.what.partition(":")[0]: loss.line for loss in read(text).losses}


JOB = """
    apiVersion: batch/v1
    kind: Job
    metadata:
      name: resnet
      namespace: research
      labels:
        app: resnet
    spec:
      completions: 20
      parallelism: 4
      backoffLimit: 2
      activeDeadlineSeconds: 7200
      ttlSecondsAfterFinished: 100
      template:
        spec:
          restartPolicy: Never
          nodeSelector:
            cloud.google.com/gke-accelerator: nvidia-tesla-a100
            cloud.google.com/gke-spot: "true"
            disktype: ssd
          containers:
            - name: main
              image: pytorch/pytorch:2.4.0
              command: ["python", "train.py"]
              args: ["--epochs", 10]
              env:
                - name: COUNTRY
                  value: no
                - name: HF_TOKEN
                  valueFrom:
                    secretKeyRef: {name: hf, key: token}
              resources:
                requests: {cpu: 500m, memory: 64Gi}
                limits: {nvidia.com/gpu: 2, memory: 96Gi}
              volumeMounts:
                - {name: scratch, mountPath: /scratch}
          volumes:
            - name: scratch
              emptyDir: {}
"""


def test_a_kubernetes_job_becomes_a_request() -> None:
    assert one(JOB) == {
        "task_id": "resnet",
        "name": "resnet",
        "tenant": "research",
        "per_worker": {"gpus": 2, "cpus": 0.5, "memory_gb": 68.719, "gpu_models": ["A100"]},
        "spot_ok": True,
        "image": "pytorch/pytorch:2.4.0",
        "command": ["python", "train.py", "--epochs", "10"],
        "env": {"COUNTRY": "no"},
        "secrets": ["HF_TOKEN"],
        "array": {"count": 20, "at_most": 4},
        "retries": {"at_most": 2},
        "time_limit_s": 7200.0,
    }


def test_what_a_job_says_and_a_request_cannot_is_told_with_its_line() -> None:
    container = "spec.template.spec.containers[0]"
    assert lost(JOB) == {
        "metadata.labels": 6,
        "spec.ttlSecondsAfterFinished": 13,
        "spec.template.spec.nodeSelector.disktype": 20,
        f"{container}.env[1].valueFrom": 30,
        f"{container}.resources.limits.memory": 34,
        f"{container}.volumeMounts": 35,
        "spec.template.spec.volumes": 37,
    }


def test_a_list_of_objects_gives_its_jobs_and_names_the_others() -> None:
    text = JOB + "\n    ---\n    apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: x}\n"
    found = read(text)
    assert (found.format, len(found.requests)) == ("kubernetes", 1)
    assert "kind: ConfigMap" in [loss.what for loss in found.losses]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{apiVersion: apps/v1, kind: Deployment}", "Allowed is kind: Job of batch/v1"),
        ("{apiVersion: batch/v1beta1, kind: Job}", "allowed of Kubernetes is Job (batch/v1), seen batch/v1beta1 Job"),
        ("{apiVersion: batch/v1, kind: Job}", "a Job has a container there"),
        (JOB.replace("64Gi", "64Gb"), "line 33: spec.template.spec.containers[0].resources.requests.memory: quantity"),
        (JOB.replace("completions: 20", "completions: many"), "completions: wanted is a whole number, seen 'many'"),
        (JOB.replace('command: ["python", "train.py"]', "workingDir: /"), "arguments without a command"),
        (JOB.replace("limits: {nvidia.com/gpu: 2, memory: 96Gi}", "limits: none"), "wanted is a mapping, seen 'none'"),
        (JOB.replace("nvidia.com/gpu: 2", "nvidia.com/gpu: 1.5"), "GPUs are whole"),
    ],
)  # fmt: skip
def test_a_job_that_is_wrong_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(NotUnderstoodError) as refused:
        read(text)
    assert words in str(refused.value)


SKY = """
    name: finetune
    resources:
      accelerators: {A100: 8, H100: 8}
      infra: gcp/us-central1
      cpus: 32+
      use_spot: yes
      image_id: docker:nvcr.io/nvidia/pytorch:24.05-py3
      disk_size: 512
    num_nodes: 2
    workdir: .
    envs:
      MODEL: llama
      COUNTRY: no
    secrets:
      HF_TOKEN: hf_abc
    setup: |
      pip install -r requirements.txt
    run: |
      torchrun --nnodes $SKYPILOT_NUM_NODES --ips "$SKYPILOT_NODE_IPS" train.py
"""


def test_a_skypilot_task_becomes_a_request() -> None:
    request = one(SKY)
    assert request.pop("task_id").startswith("finetune-")
    assert request == {
        "name": "finetune",
        "workers": 2,
        "spread_workers": True,
        "per_worker": {"cpus": 32.0, "gpus": 8, "gpu_models": ["A100", "H100"]},
        "spot_ok": True,
        "allowed_regions": ["gcp:us-central1"],
        "image": "nvcr.io/nvidia/pytorch:24.05-py3",
        "command": [
            "bash",
            "-c",
            "export SKYPILOT_NUM_NODES=$THALWEG_WORLD_SIZE\nset -e\npip install -r requirements.txt\nset +e\n"
            'torchrun --nnodes $SKYPILOT_NUM_NODES --ips "$SKYPILOT_NODE_IPS" train.py',
        ],
        "env": {"MODEL": "llama", "COUNTRY": "no"},
        "secrets": ["HF_TOKEN"],
    }
    assert "hf_abc" not in str(request)
    assert lost(SKY).keys() == {"resources.disk_size", "workdir", "secrets.HF_TOKEN", "run"}


def test_a_pipeline_is_a_chain() -> None:
    first, second = read("name: p\n---\nrun: echo 1\n---\nname: two\nrun: echo 2\n").requests
    assert (first["name"], second["name"]) == ("p-0", "two")
    assert second["after"] == [{"task_id": first["task_id"], "on": "success"}]


@pytest.mark.parametrize(
    ("accelerators", "need"),
    [
        ("A100:0.5", {"gpu_milli": 500, "gpu_models": ["A100"]}),
        ("L40S", {"gpus": 1, "gpu_models": ["L40S"]}),
        ("[A100:2, V100:2]", {"gpus": 2, "gpu_models": ["A100", "V100"]}),
        ("tpu-v5e:4", {"gpus": 4, "gpu_models": ["tpu-v5e"]}),
    ],
)
def test_accelerators_are_gpus_of_some_models(accelerators: str, need: dict[str, Any]) -> None:
    assert one(f"resources: {{accelerators: {accelerators}}}\nrun: x\n")["per_worker"] == need


@pytest.mark.parametrize("word", ["any_of", "ordered"])
def test_alternatives_that_ask_for_gpus_are_no_task_without_them(word: str) -> None:
    text = (
        f"resources:\n  {word}: [{{infra: aws, accelerators: A100:2}}, {{infra: gcp, accelerators: V100:2}}]\nrun: x\n"
    )
    assert one(text)["per_worker"] == {"gpus": 2, "gpu_models": ["A100", "V100"]}
    assert lost(text)[f"resources.{word}"]
    beside = text.replace("resources:", "resources:\n  accelerators: T4")
    assert one(beside)["per_worker"] == {"gpus": 1, "gpu_models": ["T4"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "resources: {any_of: [{accelerators: A100:2}, {accelerators: V100}]}\nrun: x\n",
            "models in different numbers",
        ),
        ("resources: {any_of: [{accelerators: A100:2}, {infra: aws}]}\nrun: x\n", "and some does not"),
        ("resources: {ordered: 3}\nrun: x\n", "line 1: resources.ordered: wanted is a list"),
        ("service: {replicas: 2}\nrun: x\n", "line 1: service: a service is no task that ends"),
        ("resources: {accelerators: {A100: 8, V100: 4}}\nrun: x\n", "models in different numbers"),
        ("resources: {accelerators: 'A100:many'}\nrun: x\n", "wanted is as in A100:8"),
        ("resources: {use_spot: perhaps}\nrun: x\n", "wanted is true or false, seen 'perhaps'"),
        ("resources: {cpus: lots}\nrun: x\n", "wanted is a number such as 8 or 8+, seen 'lots'"),
        ("num_nodes: two\nrun: x\n", "num_nodes: wanted is a whole number, seen 'two'"),
        ("envs: {A: }\nrun: x\n", "it has no value"),
        ("name: p\n---\nrun: x\n---\nother: 1\n", "thing"),
    ],
)
def test_a_skypilot_task_that_is_wrong_is_refused(text: str, words: str) -> None:
    if words == "thing":
        assert read(text).format == "thalweg"  # its last document decides; the client names what is missing
        return
    with pytest.raises(NotUnderstoodError) as refused:
        read(text)
    assert words in str(refused.value)


@pytest.mark.parametrize("word", ["any_of", "ordered"])
def test_alternatives_of_regions_and_spot_are_said_where_a_request_can_say_them(word: str) -> None:
    def of(*listed: str, beside: str = "") -> str:
        return f"resources: {{{beside}{word}: [{', '.join(listed)}]}}\nrun: x\n"

    regions = of("{infra: aws/us-east-1}", "{cloud: gcp, region: us-central1}", beside="accelerators: A100, ")
    assert one(regions)["allowed_regions"] == ["aws:us-east-1", "gcp:us-central1"]
    assert (f"resources.{word}" in lost(regions)) == (word == "ordered"), "a request has no order among them"
    spot = of("{infra: aws/r1, use_spot: true}", "{infra: aws/r1, use_spot: false}")
    assert (one(spot)["allowed_regions"], one(spot)["spot_ok"]) == (["aws:r1"], True)
    assert "spot_ok" not in one(of("{use_spot: false}", "{use_spot: false}", beside="use_spot: true, "))
    pairs = [(place, model) for place in ("r1", "r2") for model in ("A100", "V100")]
    whole = of(*(f"{{infra: aws/{place}, accelerators: {model}:2}}" for place, model in pairs))
    assert one(whole)["per_worker"] == {"gpus": 2, "gpu_models": ["A100", "V100"]}
    assert one(whole)["allowed_regions"] == ["aws:r1", "aws:r2"]
    for text, words in (
        (of("{infra: aws/r1, accelerators: T4}", "{infra: aws/r2, accelerators: L4}"), "L4 in aws:r1 is none of it"),
        (of("{infra: aws/r1}", "{use_spot: true}"), "some of it names a region and some does not"),
        (of("{infra: aws/r1, use_spot: true}", "{infra: aws/r2}"), "in aws:r2 is not to run on spot capacity"),
        (of("{use_spot: perhaps}"), "wanted is true or false, seen 'perhaps'"),
    ):
        with pytest.raises(NotUnderstoodError, match=words):
            read(text)


SBATCH = """
    #!/bin/bash
    #SBATCH --job-name=bert
    #SBATCH -A research
    #SBATCH --nodes=4
    #SBATCH --ntasks-per-node=1
    #SBATCH --gres=gpu:a100:8
    #SBATCH --cpus-per-task=32
    #SBATCH --mem=256G
    #SBATCH -t 2-12:00:00
    #SBATCH --array=0-15%4
    #SBATCH --dependency=afterok:4711:4712,afterany:99,singleton
    #SBATCH --output=logs/%x-%j.out
    #SBATCH -p gpu --exclusive

    module load cuda/12.4
    export MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
    srun python train.py --shard $SLURM_ARRAY_TASK_ID
    #SBATCH --time=1:00:00
"""


def test_an_sbatch_script_becomes_a_request() -> None:
    request = one(SBATCH)
    assert request.pop("task_id").startswith("bert-")
    command = request.pop("command")
    assert command[:2] == ["bash", "-c"]
    before, _, script = command[2].partition("\n")
    assert before == "export SLURM_ARRAY_TASK_ID=$((THALWEG_ARRAY_INDEX * 1 + 0))"
    assert script == dedent(SBATCH).lstrip("\n")
    assert request == {
        "name": "bert",
        "tenant": "research",
        "workers": 4,
        "spread_workers": True,
        "per_worker": {"gpus": 8, "gpu_models": ["A100"], "cpus": 32, "memory_gb": 274.878},
        "time_limit_s": 216_000.0,
        "expected_s": 216_000.0,
        "array": {"count": 16, "at_most": 4},
        "after": [
            {"task_id": "4711", "on": "success"},
            {"task_id": "4712", "on": "success"},
            {"task_id": "99", "on": "end"},
        ],
    }


def test_what_a_script_asks_and_nobody_gives_is_told_with_its_line() -> None:
    assert lost(SBATCH) == {
        "--dependency=singleton": 11,
        "--dependency=afterok": 11,
        "--dependency=afterany": 11,
        "--output=logs/%x-%j.out": 12,
        "--partition=gpu": 13,
        "--exclusive": 13,
        "module": 15,
        "SLURM_JOB_NODELIST": 16,
        "srun": 17,
        "#SBATCH --time=1": 18,
    }


def options(*lines: str) -> dict[str, Any]:
    return one("#!/bin/sh\n" + "".join(f"#SBATCH {line}\n" for line in lines) + "date\n")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (("-n 32", "-N 4", "--gpus-per-node=8", "--mem=64G"),
         {"workers": 32, "per_worker": {"gpus": 1, "memory_gb": 8.59}}),
        (("--ntasks=8", "--ntasks-per-node=4", "-G 8"), {"workers": 8, "per_worker": {"gpus": 1}}),
        (("--gpus=h100:2",), {"per_worker": {"gpus": 2, "gpu_models": ["H100"]}}),
        (("--gres=gpu", "-C v100"), {"per_worker": {"gpus": 1, "gpu_models": ["V100"]}}),
        (("--gres=gpu:1,nvme:1",), {"per_worker": {"gpus": 1}}),
        (("-c 8", "--mem-per-cpu=4000"), {"per_worker": {"cpus": 8, "memory_gb": 33.554}}),
        (("--gpus-per-task=2", "-n 2", "--mem-per-gpu=10G"),
         {"workers": 2, "per_worker": {"gpus": 2, "memory_gb": 21.475}}),
        (("-t 30",), {"time_limit_s": 1_800.0, "expected_s": 1_800.0}),
        (("-t 90:00",), {"time_limit_s": 5_400.0, "expected_s": 5_400.0}),
        (("--time=UNLIMITED",), {}),
        (("--array=1,3,5-9:2",), {"array": {"count": 5}}),
        (("--begin=2026-11-21T12:00:00+01:00",), {"not_before": 1_795_258_800_000}),
        (("-N 2-4",), {"workers": 4, "spread_workers": True}),
        (("-n4 # as many as there are folds",), {"workers": 4}),
    ],
)  # fmt: skip
def test_slurms_ways_to_ask_come_to_the_same_needs(lines: tuple[str, ...], found: dict[str, Any]) -> None:
    request = options(*lines)
    del request["task_id"], request["command"]
    assert request == {"per_worker": {}} | found if "per_worker" in found else request == found


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("--mem=lots",), "line 2: --mem lots: memory 'lots'"),
        (("--time=tomorrow",), "line 2: --time tomorrow: time 'tomorrow'"),
        (("--array=5-1",), "wanted is as in 0-15"),
        (("--array=0-999999999",), "at most 10,000 elements"),
        (("--array=0-9%many",), "wanted is as in 0-15"),
        (("-n 3", "-G 4"), "4 GPUs for 3 tasks"),
        (("-n 3", "-N 2"), "on 2 nodes"),
        (("--nodes=",), "wanted is a number from 1"),
        (("--nodes",), "line 2: --nodes has no value"),
        (("nonsense",), "'nonsense' is no option"),
        (('--job-name="open',), "line 2"),
        (("--gres=gpu:a100:none",), "wanted is as in gpu:a100:4"),
    ],
)
def test_a_script_that_is_wrong_is_refused_with_its_line(lines: tuple[str, ...], words: str) -> None:
    with pytest.raises(NotUnderstoodError) as refused:
        options(*lines)
    assert words in str(refused.value)


def test_a_script_of_no_shell_is_refused() -> None:
    with pytest.raises(ValueError, match="wanted is a script for one of bash"):
        read("#!/usr/bin/make -f\n#SBATCH -n 1\nall:\n")


def test_ours_comes_as_json_lines_lists_and_yaml_documents() -> None:
    tasks = ({"task_id": "a"}, {"task_id": "b", "per_worker": {"gpus": 1}})
    for text in (
        '[{"task_id": "a"}, {"task_id": "b", "per_worker": {"gpus": 1}}]',
        '{"task_id": "a"}\n\n{"task_id": "b", "per_worker": {"gpus": 1}}\n',
        "- task_id: a\n- task_id: b\n  per_worker: {gpus: 1}\n",
        "---\ntask_id: a\n---\ntask_id: b\nper_worker:\n  gpus: 1\n",
    ):
        found = read(text)
        assert (found.format, found.requests, found.losses) == ("thalweg", tasks, ())
    assert one('{\n  "task_id": "a"\n}\n') == {"task_id": "a"}


def test_the_same_file_is_the_same_task() -> None:
    assert one(SBATCH)["task_id"] == one(SBATCH)["task_id"]
    assert one(SBATCH)["task_id"] != one(SBATCH.replace("256G", "128G"))["task_id"]


def test_a_script_finds_its_variables_under_the_names_that_it_knows() -> None:
    script = (
        "#!/bin/bash\n#SBATCH --array=10-30:10 -n 2 -c 4\n"
        'echo "$SLURM_ARRAY_TASK_ID $SLURM_PROCID $SLURM_NTASKS $SLURM_CPUS_PER_TASK $SLURM_LOCALID"\n'
    )
    program = one(script)["command"]
    environment = {
        "THALWEG_ARRAY_INDEX": "2",
        "THALWEG_RANK": "1",
        "THALWEG_WORLD_SIZE": "2",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "30 1 2 4 0\n"
    assert lost(script) == {}


def printed(program: list[str], **environment: str) -> str:
    told = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(program, env=told, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize(
    ("array", "numbers"),
    [
        ("1,3,7", [1, 3, 7]),
        ("0-4,7%2", [0, 1, 2, 3, 4, 7]),
        ("7,1,3-5,20-30:5", [1, 3, 4, 5, 7, 20, 25, 30]),
        ("10-20:5", [10, 15, 20]),
        ("010,2", [2, 10]),
        ("6", [6]),
    ],
)
def test_every_element_of_an_array_finds_slurms_number(array: str, numbers: list[int]) -> None:
    script = f"#!/bin/sh\n#SBATCH -J s5 --array={array}\necho $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_JOB_ID\n"
    request = one(script)
    assert request["array"]["count"] == len(numbers)
    assert lost(script) == {}
    for index, number in enumerate(numbers):
        told = {"THALWEG_ARRAY_INDEX": str(index), "THALWEG_TASK_ID": f"s5-x[{index}]"}
        assert printed(request["command"], **told) == f"{number} of s5-x\n"


def test_a_program_that_a_script_starts_finds_its_number_too() -> None:
    script = "#!/bin/sh\n#SBATCH --array=1,3,7\nenv\n"
    assert "SLURM_ARRAY_TASK_ID=7" in printed(one(script)["command"], THALWEG_ARRAY_INDEX="2").splitlines()


def test_a_script_of_python_finds_its_variables_too() -> None:
    head = "#!/usr/bin/env python3 -u\n#SBATCH --array=5,9\nimport os, sys\n"
    script = head + "print(os.environ['SLURM_ARRAY_TASK_ID'], sys.argv)\n"
    assert printed(one(script)["command"], THALWEG_ARRAY_INDEX="1") == "9 ['-c']\n"
    assert lost(script) == {}
    without = "#!/usr/bin/env python3\n#SBATCH -n 1\nprint(1)\n"
    assert one(without)["command"] == ["python3", "-c", without]


@pytest.mark.parametrize("text", [JOB, SKY, SBATCH], ids=["kubernetes", "skypilot", "sbatch"])
def test_what_comes_of_a_file_is_a_request_that_is_taken(text: str) -> None:
    checked, _ = checked_request(one(text), "submit")
    assert checked.task_id


def test_kubernetes_puts_variables_into_commands_and_so_do_we() -> None:
    text = """
        apiVersion: batch/v1
        kind: Job
        metadata: {name: k}
        spec:
          template:
            spec:
              containers:
                - name: main
                  image: busybox
                  command: [sh, -c]
                  args: ["echo $(FOO) $$(FOO) $(NOBODY) $FOO $$ $(BOTH)", "$(TOKEN)"]
                  env:
                    - {name: FOO, value: bar}
                    - {name: BOTH, value: "$(FOO)/$(LATER)"}
                    - {name: LATER, value: x}
                    - name: TOKEN
                      valueFrom: {secretKeyRef: {name: s, key: k}}
    """
    request = one(text)
    assert request["command"][2:] == ["echo bar $(FOO) $(NOBODY) $FOO $ bar/$(LATER)", "$(TOKEN)"]
    assert request["env"]["BOTH"] == "bar/$(LATER)"
    (told,) = [str(loss) for loss in read(text).losses if "args[1]" in loss.what]
    assert "$(TOKEN)" in told


@pytest.mark.parametrize(("execution", "in_turn"), [("parallel", False), ("serial", True), (None, True)])
def test_a_group_of_skypilot_runs_side_by_side_and_a_pipeline_in_turn(execution: str | None, in_turn: bool) -> None:
    header = "name: group\n" + (f"execution: {execution}\n" if execution else "")
    found = translate(header + "---\nname: a\nrun: echo a\n---\nname: b\nrun: echo b\n")
    assert ["after" in request for request in found.requests] == [False, in_turn]
    with pytest.raises(NotUnderstoodError, match="execution"):
        translate("name: group\nexecution: sideways\n---\nrun: a\n---\nrun: b\n")


def test_the_value_of_a_secret_is_shown_nowhere() -> None:
    found = translate("run: echo\nsecrets:\n  TOKEN: hunter2\n")
    assert found.requests[0]["secrets"] == ["TOKEN"]
    assert "hunter2" not in repr(found)
    assert any("secrets.TOKEN" in str(loss) for loss in found.losses)


def test_what_means_something_else_elsewhere_is_told() -> None:
    script = "#!/bin/bash\n#SBATCH --mem=0\n#SBATCH --dependency=afterok:123\necho\n"
    assert {"--mem=0", "--dependency=afterok"} <= lost(script).keys(), lost(script)
    job = JOB.replace("disktype: ssd", "topology.kubernetes.io/region: us-east-1")
    assert any("provider:region" in loss.why for loss in read(job).losses)


def test_a_script_with_line_ends_of_dos_runs_as_it_was_meant() -> None:
    text = "#!/bin/bash\r\n#SBATCH --time=10\r\necho hi\r\n"
    found = translate(text)
    (request,) = found.requests
    assert "\r" not in request["command"][-1]
    assert [loss.what for loss in found.losses] == ["line ends of DOS in 3 lines"]
    assert request["task_id"] != ""
