"""SkyPilot's `any_of` and `ordered`: what their alternatives say of regions and spot, as one request can say it.

A request has one list of models, one of regions, and one word on spot capacity: it means every model in every region.
So alternatives that mean other pairs than these are refused, because some task would run where nobody has asked for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from thalweg.translate.sheet import Sheet

ORDERED: Final = "resources.ordered"
PATHS: Final = ("resources.any_of", ORDERED)
_SAID: Final = frozenset({"accelerators", "infra", "cloud", "region", "use_spot"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternatives:
    """What all alternatives together say."""

    regions: list[str] | None = None
    """None where they name none."""
    spot: bool | None = None
    """Whether spot capacity will do; None where they do not say."""
    said: tuple[str, ...] = ()
    """Of `PATHS`, those of which all is said by the request; of `ordered` the order never is."""


def alternatives(sheet: Sheet) -> Alternatives:
    """Read them.

    Raises:
        NotUnderstoodError: the request cannot say what they say together.
    """
    regions: dict[str, None] = {}
    spots: list[bool] = []
    said: list[str] = []
    for path in PATHS:
        listed = [one for one in sheet.items(path) if isinstance(one, dict)]
        if not listed:
            continue
        places, on_spot = [_region(one) for one in listed], [_on_spot(sheet, path, one) for one in listed]
        if any(places) and not all(places):
            raise sheet.refuse(path, "some of it names a region and some does not: a request has one list for all")
        if any(word is not None for word in on_spot) and any(word is None for word in on_spot):
            top = sheet.look("resources.use_spot")
            on_spot = [bool(top) if word is None else word for word in on_spot]
        rows = list(zip((str(one.get("accelerators")) for one in listed), places, on_spot, strict=True))
        for wrong in _not_meant(rows):
            raise sheet.refuse(path, wrong)
        regions.update(dict.fromkeys(place for place in places if place is not None))
        spots += [word for word in on_spot if word is not None]
        if path != ORDERED and all(map(_is_said, listed)):
            said.append(path)
    return Alternatives(regions=list(regions) or None, spot=any(spots) if spots else None, said=tuple(said))


def _not_meant(rows: list[tuple[str, str | None, bool | None]]) -> Iterator[str]:
    """Say what a request of all models, all regions and spot would mean beyond the alternatives."""
    pairs = {(models, place) for models, place, _ in rows}
    named = sorted({place for _, place in pairs if place is not None})
    for models in sorted({models for models, _ in pairs}):
        for region in named:
            if (models, region) not in pairs:
                yield (
                    f"{models} in {region} is none of it, and a request means every model in every region: "
                    "submit one each"
                )
    on_spot = {(models, place) for models, place, spot in rows if spot}
    for models, place in sorted((pairs - on_spot) if on_spot else (), key=str):
        where = f" in {place}" if place else ""
        yield f"{models}{where} is not to run on spot capacity and others are: a request has one word on it for all"


def _is_said(one: dict[str, Any]) -> bool:
    """Tell whether a request says all of an alternative."""
    return one.keys() <= _SAID and (_region(one) is not None or not one.keys() & {"infra", "cloud", "region"})


def _region(one: dict[str, Any]) -> str | None:
    """Name the region of an alternative; None where it names none, or a cloud alone."""
    infra, cloud, region = one.get("infra"), one.get("cloud"), one.get("region")
    if isinstance(infra, str) and infra.count("/") >= 1:
        cloud, region, *_ = infra.split("/")
    return None if not cloud or not region or region == "*" else f"{cloud}:{region}"


def _on_spot(sheet: Sheet, path: str, one: dict[str, Any]) -> bool | None:
    word = one.get("use_spot")
    if word is not None and not isinstance(word, bool):
        raise sheet.refuse(path, f"use_spot: wanted is true or false, seen {word!r}")
    return word
