"""How long a test waits for what it needs: this bounds a standstill and never the speed of a busy machine."""

from typing import Final

PATIENCE_S: Final = 900.0
