"""Pod lists made from the public ones: to see that packing is not fitted to the lists that it was tried on.

Each is as long as the public list and drawn from it with replacement, kind by kind, so that a kind makes up the part
of the list that the title says; within a kind every pod is as likely as in the public list.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from thalweg.replay.traces import OpenbPod

SEED = 2023


def made_up_lists(default: Sequence[OpenbPod], with_models: Sequence[OpenbPod]) -> dict[str, list[OpenbPod]]:
    """Return the lists by what they are.

    Args:
        default: the public list.
        with_models: a public list of which some pods name the GPU models that they accept.
    """
    without, shares, whole, gangs = (
        [pod for pod in default if _kind(pod) == kind] for kind in ("none", "share", "whole", "gang")
    )
    named = [pod for pod in with_models if pod.gpu_models]
    anything = [pod for pod in with_models if pod.need.gpus and not pod.gpu_models]
    size = len(default)
    bare = len(without)
    with_gpu = size - bare
    gang_gpus = _gpus(gangs) / max(1, len(gangs))
    single_gpus = _gpus([*shares, *whole]) / max(1, len(shares) + len(whole))

    def gangs_of(share: float) -> int:
        """How many gangs make up this share of the GPU demand."""
        ratio = share / (1 - share) * single_gpus / gang_gpus
        return round(with_gpu * ratio / (1 + ratio))

    return {
        "60 % of GPU pods are shares": _drawn(
            (without, bare), (shares, round(0.6 * with_gpu)), ([*whole, *gangs], round(0.4 * with_gpu))
        ),
        "all GPU pods are shares": _drawn((without, bare), (shares, with_gpu)),
        "CPU-only pods are half as many as GPU pods": _drawn(
            (without, round(size / 3)), ([*shares, *whole, *gangs], round(size * 2 / 3))
        ),
        "no CPU-only pods": _drawn(([*shares, *whole, *gangs], size)),
        "30 % of the demand is pods of several GPUs": _drawn(
            (without, bare), (gangs, gangs_of(0.3)), ([*shares, *whole], with_gpu - gangs_of(0.3))
        ),
        "50 % of the demand is pods of several GPUs": _drawn(
            (without, bare), (gangs, gangs_of(0.5)), ([*shares, *whole], with_gpu - gangs_of(0.5))
        ),
        "25 % of GPU pods name models": _drawn(
            (without, bare), (named, round(0.25 * with_gpu)), (anything, round(0.75 * with_gpu))
        ),
        "33 % of GPU pods name models": _drawn(
            (without, bare), (named, round(0.33 * with_gpu)), (anything, round(0.67 * with_gpu))
        ),
    }


def _kind(pod: OpenbPod) -> str:
    if pod.need.gpus == 0:
        return "none"
    if pod.need.gpus > 1:
        return "gang"
    return "share" if pod.need.gpu_milli < 1000 else "whole"


def _gpus(pods: Sequence[OpenbPod]) -> float:
    return sum(pod.need.total_gpu_milli for pod in pods) / 1000


def _drawn(*parts: tuple[Sequence[OpenbPod], int]) -> list[OpenbPod]:
    rng = random.Random(SEED)
    chosen = [rng.choice(pods) for pods, number in parts for _ in range(number)]
    return [replace(pod, name=f"pod-{at:06d}") for at, pod in enumerate(chosen)]
