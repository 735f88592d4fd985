"""Damage to a file as disks and copies do it: some ranges hold something else."""

import random
from pathlib import Path


def overwrite(file: Path, whole: bytes, rng: random.Random) -> None:
    """Write a file anew with one to three ranges of it overwritten, and nothing beside it."""
    damaged = bytearray(whole)
    for _ in range(rng.randint(1, 3)):
        first = rng.choice([rng.randrange(len(whole)), rng.randrange(len(whole)) // 4096 * 4096])
        length = min(rng.choice([1, 2, 8, 100, 4096, 3 * 4096]), len(whole) - first)
        damaged[first : first + length] = rng.choice([b"\xff" * length, b"\0" * length, rng.randbytes(length)])
    if rng.random() < 0.1:
        del damaged[rng.randrange(len(damaged)) :]
    file.write_bytes(damaged)
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
