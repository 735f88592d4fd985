"""Turn Python's values into those that JSON has."""

import base64
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any


def plain(value: object) -> Any:
    """Turn a value into what JSON can hold.

    Times become UTC text, and one without a zone is UTC; bytes become base64, decimals their text, NaN and infinity
    null.
    """
    match value:
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            moment = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
            return moment.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)
