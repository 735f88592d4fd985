import subprocess
import sys


def test_the_functions_are_scipys_and_scipy_is_whole_afterwards() -> None:
    program = """
import sys
from thalweg.scheduling.explain import normal_curve
assert "scipy.special" not in sys.modules and "scipy" not in sys.modules
import numpy as np, scipy.special, scipy.stats
x = np.linspace(-40, 9, 50)
for name in ("ndtr", "log_ndtr", "ndtri_exp"):
    ours, theirs = getattr(normal_curve, name), getattr(scipy.special, name)
    at = -np.abs(x) - 1e-9
    assert (ours(at) == theirs(at)).all(), name
assert scipy.special.gamma(5) == 24.0 and scipy.stats.norm.cdf(0) == 0.5
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "done", done.stderr


def test_where_scipy_is_there_already_it_is_taken() -> None:
    program = """
import scipy.special
from thalweg.scheduling.explain import normal_curve
assert normal_curve.ndtr is scipy.special.ndtr
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "done", done.stderr
