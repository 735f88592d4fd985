"""The centre's own row in `sync_regions`, for who reads the tables without the machinery that writes them."""

from typing import Final

import msgspec

from thalweg.sync.protocol.stamps import ZERO, Hlc

CENTRE_ROW: Final = "@centre"  # no region's name: they hold no @


class RegionCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has happened to a region's messages since the tables began."""

    refused: int = 0
    conflicts: int = 0
    warned: int = 0  # merged although their stamps were ahead of time
    last_refusal: str | None = None


class CentreRow(msgspec.Struct, frozen=True, kw_only=True):
    """The centre's own state, in the row `@centre`."""

    forgotten_through: Hlc = ZERO
    counts: dict[str, RegionCounts] = {}  # by region
    last_batch: tuple[str, int] | None = None  # the last one counted, so that a repetition is not counted again
    replica_topic: str = ""  # id of the replica topic that holds everything; "": not known
