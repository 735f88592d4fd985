"""The compiled kernels and the plain interpreter compute the same integers."""

import json
import os
import random
import subprocess
import sys

import numpy as np

from scheduling import pack_kernels as kernels
from scheduling.nodes import Need, Nodes, Pool
from scheduling.pack import Packer
from scheduling.popularity import sample_futures

SHAPES = [
    Need(gpus=1, gpu_milli=470, cpu_milli=8000, memory_mib=30517),
    Need(gpus=1, gpu_milli=530, cpu_milli=4000, memory_mib=8192),
    Need(gpus=1, gpu_milli=190, cpu_milli=1000, memory_mib=2048),
    Need(gpus=1, cpu_milli=11300, memory_mib=49152),
    Need(gpus=4, cpu_milli=32000, memory_mib=131072),
    Need(gpus=0, cpu_milli=6000, memory_mib=4096),
]

SCRIPT = """
import json, sys
from tests.unit.scheduling.test_pack_kernels import place_a_few
print(json.dumps(place_a_few()))
"""


def some_outlook(futures: int = 8) -> kernels.Outlook:
    return sample_futures(
        {(need, frozenset({0, 1} if i % 2 else {1})): float(i + 1) for i, need in enumerate(SHAPES)},
        pools=2,
        gpus=np.array([8, 4, 2]),
        cpu_milli=np.array([96000, 48000, 64000]),
        memory_mib=np.array([393216, 262144, 262144]),
        pool=np.array([0, 1, 1]),
        futures=futures,
        seed=3,
    )


def place_a_few() -> list[list[object]]:
    nodes = Nodes()
    for i in range(6):
        pool = Pool("r", "T4" if i % 2 else "G2")
        nodes.put(f"n{i}", pool, gpus=4, cpu_milli=40_000, memory_mib=200_000)
    packer = Packer(nodes, futures=4)
    rng = random.Random(5)
    answers: list[list[object]] = []
    for _ in range(40):
        slots = packer.place(rng.choice(SHAPES), [0, 1] if rng.random() < 0.7 else [0])
        answers.append([None if s is None else [s.node, list(s.devices)] for s in slots or (None,)])
    return answers


def test_an_empty_node_is_worth_more_than_a_full_one_and_nothing_without_gpus() -> None:
    outlook = some_outlook()
    whole = kernels.fill(1, 64000, 262144, np.full(4, 1000), 4, outlook)
    half = kernels.fill(1, 64000, 262144, np.full(4, 500), 4, outlook)
    starved = kernels.fill(1, 900, 262144, np.full(4, 1000), 4, outlook)
    assert whole > half > starved == 0


def test_without_a_compiler_the_packer_gives_the_same_slots() -> None:
    plain = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(plain.stdout) == place_a_few()


def test_a_missing_numba_is_no_error() -> None:
    script = "import sys; sys.modules['numba'] = None\n" + SCRIPT
    plain = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(plain.stdout) == place_a_few()
