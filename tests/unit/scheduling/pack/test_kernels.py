"""The compiled kernels and the plain interpreter compute the same integers."""

import json
import os
import random
import subprocess
import sys

import numpy as np

from thalweg.scheduling.pack import kernels
from thalweg.scheduling.pack.nodes import MAX_DEVICES, Need, Nodes, Pool
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.pack.popularity import sample_futures

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
from tests.unit.scheduling.pack.test_kernels import place_a_few
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
        nodes.set_node(f"n{i}", pool, gpus=4, cpu_milli=40_000, memory_mib=200_000)
    packer = Packer(nodes, futures=4)
    rng = random.Random(5)
    answers: list[list[object]] = []
    for _ in range(40):
        slots = packer.place(rng.choice(SHAPES), [0, 1] if rng.random() < 0.7 else [0])
        answers.append([None if s is None else [s.node, list(s.devices)] for s in slots or (None,)])
    return answers


def empty_memo(outlook: kernels.Outlook) -> kernels.Memo:
    return kernels.Memo(
        keys=np.zeros(64, np.int64),
        values=np.zeros(64, np.int64),
        offer_keys=np.zeros(64, np.int64),
        offers=np.zeros((64, len(outlook.futures), 3), np.int64),
        used=np.zeros(2, np.int64),
        scratch=np.zeros((3, MAX_DEVICES), np.int64),
    )


def fill(cpu: int, memory: int, free: list[int], outlook: kernels.Outlook, memo: kernels.Memo) -> int:
    key = 1 + sum((at + 1) * 1009**at * width for at, width in enumerate(free))
    return kernels.fill(key, 1, cpu, memory, np.array(free), len(free), outlook, memo)


def test_an_empty_node_is_worth_more_than_a_full_one_and_nothing_without_gpus() -> None:
    outlook = some_outlook()
    whole, half, starved = (
        fill(cpu, 262144, free, outlook, empty_memo(outlook))
        for cpu, free in ((64000, [1000] * 4), (64000, [500] * 4), (900, [1000] * 4))
    )
    assert whole > half > starved == 0


def test_what_is_remembered_of_the_devices_changes_no_value() -> None:
    outlook = some_outlook()
    memo = empty_memo(outlook)
    full = empty_memo(outlook)
    full.used[1] = 64  # remembers nothing: every future is offered anew
    rng = random.Random(1)
    states = [[rng.choice([1000, 530, 190, 0]) for _ in range(4)] for _ in range(4)]
    values = set()
    for _ in range(200):
        cpu, memory, free = (
            rng.choice([1000, 9000, 30_000, 200_000]),
            rng.choice([4096, 65_536, 1 << 20]),
            rng.choice(states),
        )
        assert fill(cpu, memory, free, outlook, memo) == fill(cpu, memory, free, outlook, full)
        values.add(fill(cpu, memory, free, outlook, memo))
    assert memo.used[1] == 4 and len(values) > 10


def test_states_that_share_a_place_in_the_memory_are_kept_apart_within_it() -> None:
    outlook = some_outlook(2)
    room = np.zeros(2 * 64, np.int64)  # twice as much as the memory may use
    memo = empty_memo(outlook)._replace(offer_keys=room[:64], offers=np.zeros((2 * 64, 2, 3), np.int64)[:64])
    states = {(63 + 64 * number) << 7 | 1: np.array([1000 - 90 * number] * 4) for number in range(10)}
    places = {key: kernels.offers_of(key, 1, free, 4, outlook, memo) for key, free in states.items()}
    assert len(set(places.values())) == len(states)
    assert all(0 <= at < 64 for at in places.values()) and not room[64:].any()
    for key, free in states.items():
        assert kernels.offers_of(key, 1, free, 4, outlook, memo) == places[key]
        alone = empty_memo(outlook)
        at = kernels.offers_of(key, 1, free, 4, outlook, alone)
        assert (memo.offers[places[key]] == alone.offers[at]).all()


def test_scores_that_follow_the_log_are_those_of_scoring_all_anew() -> None:
    nodes = Nodes()
    for i in range(5):
        nodes.set_node(f"n{i}", Pool("r", "G2"), gpus=4, cpu_milli=40_000, memory_mib=200_000)
    packer, rng = Packer(nodes, futures=4), random.Random(7)
    packer.expect("r", {(need, frozenset({0})): 1.0 for need in SHAPES})
    held = []
    for step in range(120):  # far more changes than the log of 8 holds, by the packer and behind its back
        need = rng.choice(SHAPES[: 2 + step % 5])
        copy = Packer(nodes, futures=4)
        copy.expect("r", {(need, frozenset({0})): 1.0 for need in SHAPES})
        fresh = copy.place(need, [0])
        if fresh is not None:
            nodes.release(fresh[0], need)
        assert packer.place(need, [0]) == fresh
        if fresh is not None:
            held.append((fresh[0], need))
        while held and rng.random() < 0.5:
            nodes.release(*held.pop(rng.randrange(len(held))))


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
