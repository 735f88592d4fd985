"""Amounts as other systems write them: memory in GB (10⁹ bytes), times in seconds, GPU models by their plain names."""

import math
import re
from typing import Final

from thalweg.translate.translation import NotUnderstoodError

_BINARY: Final = {"": 2**20, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SUFFIXES: Final = {
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    **{f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGTPE", start=1)},
}
_SLURM_MEMORY: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([KMGT]?)B?", re.IGNORECASE)
_QUANTITY: Final = re.compile(r"([0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,3})?)([a-zA-Z]{0,2})")
_SLURM_TIME: Final = re.compile(r"(?:(\d{1,6})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?")
_MODELS: Final = (
    # Longer names first: an L40S is no L4.
    *("GB200", "B200", "B100", "GH200", "H200", "H100", "H20", "H800", "A100", "A800", "A10G", "A10", "A16", "A30"),
    *("A40", "A2", "L40S", "L40", "L20", "L4", "T4", "V100", "P100", "P40", "P4", "K80", "M60", "MI300X", "MI250X"),
    *("MI250", "MI210", "MI100", "RTX6000", "RTX8000", "RTX4090", "RTX3090", "RTX2080"),
)


def slurm_memory_gb(text: str) -> float:
    """Read Slurm's memory: 16G, 4000 (megabytes), 1.5T; its units are powers of 1,024.

    Raises:
        NotUnderstoodError: it is none.
    """
    match = _SLURM_MEMORY.fullmatch(text.strip())
    if match is None:
        raise NotUnderstoodError(f"memory {text!r}: wanted is a number with K, M, G or T, for example 16G")
    return float(match.group(1)) * _BINARY[match.group(2).upper()] / 1e9


def slurm_seconds(text: str) -> float | None:
    """Read Slurm's time: 30 (minutes), 30:00, 4:00:00, 2-12, 2-12:00:00; None for no limit.

    Raises:
        NotUnderstoodError: it is none.
    """
    if text.strip().upper() in ("UNLIMITED", "INFINITE", "0"):
        return None
    match = _SLURM_TIME.fullmatch(text.strip())
    if match is None:
        raise NotUnderstoodError(
            f"time {text!r}: wanted is minutes, minutes:seconds, hours:minutes:seconds or days-hours"
        )
    days, *rest = match.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    return float(int(days or 0) * 86_400 + hours * 3_600 + minutes * 60 + seconds)


def quantity(value: object) -> float:
    """Read a Kubernetes quantity: 500m, 2, 1.5, 64Gi, 1e3.

    Raises:
        NotUnderstoodError: it is none.
    """
    match = None if isinstance(value, bool) else _QUANTITY.fullmatch(str(value).strip())
    if match is None or match.group(2) not in _SUFFIXES:
        raise NotUnderstoodError(f"quantity {value!r}: wanted is a number with a unit, for example 500m, 4 or 64Gi")
    found = float(match.group(1)) * _SUFFIXES[match.group(2)]
    if not math.isfinite(found):
        raise NotUnderstoodError(f"quantity {value!r} is larger than any machine")
    return found


def gpu_model(text: str) -> str | None:
    """Find the model in whatever a system calls it: nvidia-tesla-a100, NVIDIA-H100-80GB-HBM3, a100; None if none."""
    plain = re.sub(r"[^A-Z0-9]", "", text.upper())
    return next((model for model in _MODELS if model in plain), None)
