"""After the warm-up no live plan compiles anything."""

import json
import subprocess
import sys

import pytest

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.scheduling.compiled import COMPILED

SCRIPT = """
import json
from thalweg.scheduling.pack import kernels
from thalweg.scheduling.solve import improve, simplex
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.warm_up import warm_up
from tests.properties.test_live_world import TestLiveWorld

def compiled():
    functions = [f for module in (improve, kernels, simplex) for f in vars(module).values()]
    return [len(kernel.signatures) for kernel in functions if hasattr(kernel, "signatures")]

warm_up(PlanSettings())
warm = compiled()
TestLiveWorld("runTest").runTest()
print(json.dumps([warm, compiled()]))
"""


@pytest.mark.skipif(not COMPILED, reason="numba cannot compile here: nothing to warm up")
def test_live_plans_of_every_kind_find_their_kernels_ready() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, cwd=PROJECT_ROOT, capture_output=True, text=True)
    warm, after = json.loads(done.stdout)
    assert sum(warm) >= 3
    assert after == warm
