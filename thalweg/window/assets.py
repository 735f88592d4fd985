"""The page's files, which are part of the package: read once, packed once, known by what is in them."""

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

_KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file."""

    kind: str
    plain: bytes
    packed: bytes
    tag: str


def assets() -> dict[str, Asset]:
    """Give the files by the paths that they are asked by."""
    found: dict[str, Asset] = {}
    for file in files("thalweg.window").joinpath("page").iterdir():
        ending = file.name.rpartition(".")[2]
        if ending not in _KINDS:
            continue
        plain = file.read_bytes()
        tag = f'"{hashlib.sha256(plain).hexdigest()[:16]}"'
        asset = Asset(kind=_KINDS[ending], plain=plain, packed=gzip.compress(plain, 9, mtime=0), tag=tag)
        found["/" if file.name == "index.html" else f"/{file.name}"] = asset
    return found
