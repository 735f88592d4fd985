"""A version's bytes on their way: packed, or as what they differ by from those of a version that is there already.

A difference is zstd with the other version as its dictionary (`zstd --patch-from`). It pays where most bytes stay, as
when trees are added; where all weights moved a little it does not, and then it is not made.
"""

from collections.abc import Callable, Mapping
from typing import Final

import zstandard

from thalweg.learning.vectors.parameters import digest
from thalweg.serving.version_record import ModelVersion, Way

_LEVEL: Final = 9
"""A version is packed once and unpacked in every region."""
PAYS: Final = 0.9
"""A way is kept beside a simpler one when it takes at most this share of its bytes."""
_MOST_WINDOW: Final = 2**30


class TransferError(Exception):
    """What was fetched does not lead to the version's bytes; the text says why."""


def packed(raw: bytes) -> bytes:
    """Pack a version's bytes."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(raw)


def difference(raw: bytes, base: bytes) -> bytes:
    """Write what a version's bytes differ by from another's."""
    window = max(10, (len(raw) + len(base)).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=min(window, 30), enable_ldm=True, source_size=len(raw)
    )
    return zstandard.ZstdCompressor(
        dict_data=_dictionary(base), compression_params=parameters
    ).compress(raw)  # fmt: skip


def ways_of(raw: bytes, base: bytes | None = None) -> dict[Way, bytes]:
    """Choose how a version is kept in the store: the simplest way, and those that save enough beside it.

    Args:
        raw: its bytes.
        base: of the version that regions serve now, where there is one.

    Returns:
        What is to be written for each way, the largest first.
    """
    made = {Way(codec="plain", sha256=digest(raw), size_bytes=len(raw)): raw}
    candidates: list[tuple[bytes, str | None]] = [(packed(raw), None)]
    if base is not None and base != raw:
        candidates.append((difference(raw, base), digest(base)))
    for content, of in candidates:
        if len(content) <= PAYS * min(map(len, made.values())):
            codec = "zstd" if of is None else "delta"
            made[Way(codec=codec, sha256=digest(content), size_bytes=len(content), base=of)] = content  # type: ignore[arg-type]
    return made


def fetched(version: ModelVersion, get: Callable[[str], bytes], kept: Mapping[str, bytes]) -> tuple[bytes, int]:
    """Fetch a version by its smallest way.

    Args:
        version: which one.
        get: reads a payload by its digest.
        kept: bytes of versions that are here, by their digest.

    Returns:
        Its bytes, and how many were transferred.

    Raises:
        TransferError: they are not what the version says they are.
        PayloadError: the store does not have them.
        OSError: the store does not answer.
    """
    if version.sha256 in kept:
        return kept[version.sha256], 0
    way = min(
        (way for way in version.ways if way.base is None or way.base in kept), key=lambda way: way.size_bytes,
        default=None,
    )  # fmt: skip
    if way is None:
        raise TransferError(f"version {version.version} is kept only as a difference to one that is not here")
    content = get(way.sha256)
    raw = _unpacked(way, content, version.size_bytes, kept)
    if len(raw) != version.size_bytes or digest(raw) != version.sha256:
        raise TransferError(
            f"version {version.version}: {len(raw)} bytes of digest {digest(raw)[:12]}…; declared are "
            f"{version.size_bytes} of digest {version.sha256[:12]}…"
        )
    return raw, len(content)


def _unpacked(way: Way, content: bytes, size: int, kept: Mapping[str, bytes]) -> bytes:
    if way.codec == "plain":
        return content
    dictionary = None if way.base is None else _dictionary(kept[way.base])
    try:
        if zstandard.frame_content_size(content) != size:
            raise TransferError(f"the {way.codec} way unpacks to another size; declared are {size} bytes")
        return zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_MOST_WINDOW).decompress(content)
    except zstandard.ZstdError as error:
        raise TransferError(f"the {way.codec} way cannot be unpacked: {error}") from error


def _dictionary(base: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
