"""What the tables folded from the ledger say of how far they are: each commit names the last batch that is in it."""

from typing import Final

FOLD_DRIVER: Final = "thalweg-fold-driver"
"""Application id of the driver epoch of that batch."""
FOLD_BATCH: Final = "thalweg-fold-batch"
"""Application id of its number."""
FOLD_DIGEST: Final = "thalweg-fold-digest-3"
"""Application id of a digest of its rows. Its number grows with the rules of the fold: tables of older rules (of the
first, in which a task that had begun again was two rows; of the second, in which one that had ended could be held) are
folded anew at the next start."""
