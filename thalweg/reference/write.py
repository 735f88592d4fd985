"""Write the generated parts of the documents: `python -m thalweg.reference.write`; with `--check` only compare them."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from thalweg.cli.contract_commands import asyncapi_yaml
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.conf.settings import KafkaSettings
from thalweg.jobs.runtime.flows import all_jobs, as_mermaid, as_text
from thalweg.reference import pages
from thalweg.reference.decisions import decisions_page
from thalweg.reference.drawing import rooms_page
from thalweg.reference.rooms import rooms_text
from thalweg.streams.contract.asyncapi import PUBLISHED, message_schema
from thalweg.sync.proof.worked_cases import cases

_FOLDER: Final = "docs/reference"
_ARCHITECTURE: Final = "docs/explanation/architecture.md"
_INDEX: Final = "docs/index.md"
_BLOCK: Final = "<!-- begin generated: {name} -->\n{text}<!-- end generated: {name} -->"


def generated(root: Path = PROJECT_ROOT) -> Mapping[str, str]:
    """Every generated document's text by its path; documents that are generated in part with their own words kept."""
    texts = {
        f"{_FOLDER}/topics.md": pages.topics_page(),
        f"{_FOLDER}/events.md": pages.events_page(),
        f"{_FOLDER}/tables.md": pages.tables_page(),
        f"{_FOLDER}/settings.md": pages.settings_page(),
        f"{_FOLDER}/cli.md": pages.cli_page(),
        f"{_FOLDER}/errors.md": pages.errors_page(),
        f"{_FOLDER}/metrics.md": pages.metrics_page(),
        f"{_FOLDER}/rooms.md": rooms_page(root),
        "docs/decisions/index.md": decisions_page(root / "docs" / "decisions"),
        f"{_FOLDER}/asyncapi.yaml": asyncapi_yaml(KafkaSettings().topic_prefix),
    }
    texts[f"{_FOLDER}/sync-cases.json"] = json.dumps(cases(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    for topic in PUBLISHED:
        schema = json.dumps(message_schema(topic), indent=2, ensure_ascii=False)
        texts[f"{_FOLDER}/schemas/{topic}.json"] = schema + "\n"
    declared = all_jobs()
    blocks = {
        "flows": f"```text\n{as_text(declared)}\n```",
        "graph": f"```mermaid\n{as_mermaid(declared)}\n```",
        "rooms": rooms_text(root),
    }
    texts[_ARCHITECTURE] = _with_blocks(_ARCHITECTURE, root, blocks)
    texts[_INDEX] = _with_blocks(_INDEX, root, pages.titles(root / "docs"))
    return texts


def stale(root: Path = PROJECT_ROOT) -> list[str]:
    """Paths of generated documents that are missing or differ from what the code says now."""
    different = []
    for name, text in generated(root).items():
        path = root / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            different.append(name)
    known = {f"{topic}.json" for topic in PUBLISHED}
    extra = {path.name for path in (root / _FOLDER / "schemas").glob("*.json")} - known
    return different + [f"{_FOLDER}/schemas/{name} (no such message any more)" for name in sorted(extra)]


def _with_blocks(page: str, root: Path, blocks: Mapping[str, str]) -> str:
    text = (root / page).read_text(encoding="utf-8")
    for name, block in blocks.items():
        marked = _BLOCK.format(name=name, text=f"{block}\n")
        pattern = re.escape(_BLOCK.format(name=name, text="\0")).replace("\0", ".*?")
        text, count = re.subn(pattern, lambda _, marked=marked: marked, text, flags=re.DOTALL)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"{page}: allowed is one generated block {name!r}, seen {count}")
    return text


def main(arguments: list[str]) -> int:
    """Write what is stale, or only name it."""
    names = stale()
    if arguments not in ([], ["--check"]):
        print(f"seen {' '.join(arguments)!r}; allowed is nothing, or --check", file=sys.stderr)
        return 2
    for name in names:
        print(name)
    if arguments:
        return 1 if names else 0
    texts = generated()
    for name in names:
        path = PROJECT_ROOT / name.partition(" (")[0]
        if name in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[name], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
