"""The machine a measurement ran on, as far as it explains the figures; nothing that names it."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from thalweg.conf.environment import IN_CLONE, PROJECT_ROOT


def describe() -> dict[str, Any]:
    """Cores, memory, processor and the versions of what was measured."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("pyspark", "deltalake", "pyarrow", "kafka-python", "ortools")},
    }


def commit_of_clone() -> str | None:
    """Return the commit of the clone that this is; None outside of one."""
    if not IN_CLONE:  # installed, we may lie within somebody else's repository
        return None
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=10
    )
    return answer.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
