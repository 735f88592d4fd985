"""Say of a message that its type refuses it: what was seen in which field, what is allowed, what to write instead.

A decoder says `Expected int | null, got str - at $.not_before`, which helps whoever wrote the decoder. Only the place
is taken from its words; what stands there is looked up in the content, and what may stand there in the message's type.
"""

import re
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from thalweg.streams.contract import moments
from thalweg.streams.contract.messages import EpochMs, VariableName

_PLACE: Final = re.compile(r" - at (`key` in )?`\$(.*)`$", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_MISSING: Final = re.compile(r"Object missing required field `(.+?)`")
_UNITS: Final = {
    "_s": "seconds",
    "_ms": "milliseconds",
    "_gb": "GB (10⁹ bytes)",
    "_usd_per_hour": "US dollars an hour",
    "_usd_per_gpu_hour": "US dollars a GPU-hour",
    "_milli": "thousandths",
}
_SPANS_S: Final = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_LONGEST: Final = 60


def in_words(error: Exception, content: Mapping[str, Any], message: type[msgspec.Struct]) -> str:
    """Put a refusal into words.

    Args:
        error: of encoding the content, or of decoding it as the message.
        content: what was to be sent.
        message: the type that it should have.
    """
    if isinstance(error, UnicodeEncodeError):
        return _half_a_character(content) or str(error)
    found = _PLACE.search(str(error))
    if found is None:
        missing = _MISSING.match(str(error))
        return f"{missing.group(1)} is missing, and required" if missing else str(error)
    try:
        return _refusal(str(error), found.group(2), found.group(1) is not None, content, message)
    except (LookupError, TypeError, AttributeError):
        return str(error)  # a place that the type does not explain


def _refusal(text: str, steps: str, is_key: bool, content: Any, hint: Any) -> str:
    at, name, value = "", "", content
    for field, index in _STEP.findall(steps):
        kind = _bare(hint, value)
        if field:
            hint, value, name = typing.get_type_hints(kind, include_extras=True)[field], value[field], field
            at = f"{at}.{field}" if at else field
        elif index == "..." and isinstance(value, Mapping):
            hint = get_args(kind)[1]
            name = next(key for key, inner in value.items() if not _fits(inner, hint))
            value, at = value[name], f"{at}.{name}"
        else:
            position = int(index)
            hint, value, at = get_args(kind)[0], list(value)[position], f"{at}[{position}]"
    if is_key:
        hint = get_args(_bare(hint, value))[0]
        key = next(key for key in value if not _fits(key, hint))
        return f"{at} has the name {_shown(key)}: allowed is {_allowed(hint, '')}"
    if missing := _MISSING.match(text):
        return f"{at} has no {missing.group(1)}, which is required"
    seen = f"{at} {_shown(value)}"
    if isinstance(value, str) and any(one.max_length and len(value) > one.max_length for one in _metas(hint)):
        seen = f"{at} has {len(value):,} characters"
    instead = _instead(name, value, hint)
    return f"{seen}: allowed is {_allowed(hint, name)}" + (f"; {instead}" if instead else "")


def _choices(hint: Any) -> tuple[Any, ...]:
    """Give the kinds that may stand somewhere, without null."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(inner for one in get_args(hint) if one is not type(None) for inner in _choices(one))
    return (hint,)


def _unwrapped(hint: Any) -> Any:
    while True:
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def _metas(hint: Any) -> list[msgspec.Meta]:
    return [
        meta
        for one in _choices(hint)
        if get_origin(one) is Annotated
        for meta in one.__metadata__
        if isinstance(meta, msgspec.Meta)
    ]


def _bare(hint: Any, value: Any) -> Any:
    """Give the kind of list, mapping or message that was to stand where this value does."""
    kinds = [_unwrapped(one) for one in _choices(hint)]
    wanted: tuple[type, ...] = (list, tuple) if isinstance(value, list | tuple | set) else (dict, msgspec.Struct)
    for kind in kinds:
        if issubclass(get_origin(kind) or (kind if isinstance(kind, type) else object), wanted):
            return kind
    return kinds[0]


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True


def _allowed(hint: Any, name: str) -> str:
    words = [_kind(one, name) for one in _choices(hint)]
    return " or ".join(words) + (" or null" if type(None) in get_args(hint) else "")


def _kind(hint: Any, name: str) -> str:
    kind, metas = _unwrapped(hint), _metas(hint)
    if hint == EpochMs:
        return "a moment in milliseconds since 1970, a whole number"
    if hint == VariableName:
        return "letters, digits and _, beginning with no digit, up to 256 characters"
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if kind in (int, float):
        unit = next((unit for suffix, unit in _UNITS.items() if f"_{name}".endswith(suffix)), "")
        what = "a whole number" if kind is int else "a number"
        return what + (f" of {unit}" if unit else "") + _range(metas)
    if kind is str:
        return "text" + _length(metas)
    if kind is bool:
        return "true or false"
    if get_origin(kind) is list or kind is list:
        return "a list" + (', for example ["sh", "-c", "echo hi"]' if name == "command" else "")
    if get_origin(kind) is dict or kind is dict:
        return "a mapping of names to values"
    return f"a mapping with {', '.join(kind.__struct_fields__)}"


def _range(metas: list[msgspec.Meta]) -> str:
    least = next((one.ge for one in metas if one.ge is not None), None)
    above = next((one.gt for one in metas if one.gt is not None), None)
    most = next((one.le for one in metas if one.le is not None), None)
    low = f" from {least:,.10g}" if least is not None else f" above {above:,.10g}" if above is not None else ""
    return low + (f" to {most:,.10g}" if most is not None else "")


def _length(metas: list[msgspec.Meta]) -> str:
    least = next((one.min_length for one in metas if one.min_length), None)
    most = next((one.max_length for one in metas if one.max_length), None)
    if least is None and most is None:
        return ""
    return f" of {least or 0} to {most:,} characters" if most else f" of {least} characters and more"


def _instead(name: str, value: Any, hint: Any) -> str | None:
    """Say what to write for what was probably meant; None where that cannot be guessed."""
    kinds = {get_origin(kind) or kind for kind in map(_unwrapped, _choices(hint))}
    if EpochMs in _choices(hint) and (meant := _moment_words(value)):
        return meant
    if isinstance(value, float) and kinds == {int} and value.is_integer():
        return f"write {int(value)}, without a point"
    if isinstance(value, str):
        return next(_of_text(name, value, kinds), None)
    if isinstance(value, int | float) and str in kinds:
        word = str(value).lower() if isinstance(value, bool) else value
        return f'write it in quotes: "{word}"'
    return None


def _of_text(name: str, text: str, kinds: set[Any]) -> Iterator[str]:
    if kinds & {int, float}:
        if (seconds := _seconds(text)) is not None and name.endswith("_s"):
            yield f"{text} is {seconds:g}"
        if re.fullmatch(r"[-+]?\d+(\.\d+)?", text):
            yield f"write {text}, without quotes"
    if bool in kinds and text.lower() in ("yes", "on", "no", "off", "true", "false"):
        yield f"write {'true' if text.lower() in ('yes', 'on', 'true') else 'false'}, without quotes"
    if list in kinds and len(text) <= _LONGEST:
        words = f'["sh", "-c", {_quoted(text)}]' if name == "command" else f"[{_quoted(text)}]"
        yield f"write {words}"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _moment_words(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        return f"write {int(value)}, without a point"
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    if found.tzinfo is None:
        return f"{found.isoformat()} names no zone: with Z or an offset such as +01:00 it is a moment"
    return f"{found.isoformat()} is {moments.ms_of(found)}"


def _seconds(text: str) -> float | None:
    """Read 1:30:00, 90:00, 90m or 2h as seconds; None where it is none of them."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower()):
        each = _SPANS_S.get(match.group(2))
        return None if each is None else float(match.group(1)) * each
    if re.fullmatch(r"\d{1,6}(:\d\d){1,2}", text.strip()):
        parts = [int(part) for part in text.strip().split(":")]
        hours, minutes, seconds = [0] * (3 - len(parts)) + parts
        return float(hours * 3_600 + minutes * 60 + seconds)
    return None


def _half_a_character(content: Any, at: str = "") -> str | None:
    if isinstance(content, str):
        for position, letter in enumerate(content):
            if "\ud800" <= letter <= "\udfff":
                return (
                    f"{at} {_shown(content)} holds half a character (U+{ord(letter):04X}) at position {position}: "
                    "allowed is text that UTF-8 can write; take the text as it was before it was cut or decoded"
                )
        return None
    if isinstance(content, Mapping):
        inner = [(f"{at}.{name}" if at else str(name), one) for name, one in content.items()]
        inner = [(f"{at or 'the request'} has a name that", name) for name in content] + inner
    elif isinstance(content, list | tuple):
        inner = [(f"{at}[{index}]", one) for index, one in enumerate(content)]
    else:
        return None
    return next(filter(None, (_half_a_character(one, where) for where, one in inner)), None)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    line = " ".join(repr(value).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
