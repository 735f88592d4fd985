"""The normal curve's functions, as scipy has them, without the rest of scipy: an answer would wait longer for that.

`scipy.special` loads, beside its functions, what lets them work on other libraries' arrays: five times their own time.
"""

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def _functions() -> Any:
    """Load the module that holds the functions; all of scipy where that is there already, or built differently."""
    found = importlib.util.find_spec("scipy")
    if found is None or found.origin is None or "scipy" in sys.modules:
        return import_module("scipy.special")
    root = Path(found.origin).parent
    stood_in = {"scipy": root, "scipy.special": root / "special"}
    for name, folder in stood_in.items():
        stand_in = ModuleType(name)
        stand_in.__path__ = [str(folder)]
        sys.modules[name] = stand_in
    try:
        return import_module("scipy.special._ufuncs")
    except ImportError:
        return None
    finally:
        # Whoever imports scipy later gets it whole. What is compiled stays: it cannot be loaded twice.
        for name in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
            if name in stood_in or str(getattr(sys.modules[name], "__file__", "")).endswith(".py"):
                del sys.modules[name]


_FUNCTIONS = _functions() or import_module("scipy.special")

ndtr = _FUNCTIONS.ndtr
log_ndtr = _FUNCTIONS.log_ndtr
ndtri_exp = _FUNCTIONS.ndtri_exp
