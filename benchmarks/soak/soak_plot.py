"""Draw a record of `bench soak`: `python -m thalweg.benchmarks.soak.soak_plot RECORD.json OUT.svg`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

Samples = Sequence[Mapping[str, Any]]


def draw(record: Mapping[str, Any], out: Path) -> None:
    """Draw what a batch takes, memory, and what lies on the disk, over the batches."""
    from matplotlib import pyplot

    # The same bytes for the same figures: no date, no random ids.
    matplotlib.rcParams["svg.hashsalt"] = "thalweg"
    samples: Samples = record["samples"]
    batches = [one["batch"] for one in samples]
    figure, (cost, memory, disk) = pyplot.subplots(3, 1, figsize=(9, 7), layout="constrained", sharex=True)
    for name, label, colour in (
        ("cpu_p95_ms", "a batch, p95", "#d94801"),
        ("cpu_p50_ms", "a batch, p50", "#fdae6b"),
        ("beside_ms_per_batch", "beside it, mean", "#4292c6"),
        ("yardstick_ms", "the same work each time", "0.6"),
    ):
        cost.plot(batches, [one[name] for one in samples], color=colour, label=label)
    cost.set_ylabel("ms of the processor")
    memory.plot(batches, [one["rss_mb"] for one in samples], color="#d94801", label="resident")
    memory.set_ylabel("MB")
    for name, label, colour in (
        ("files_on_disk", "files on the disk", "#d94801"),
        ("files", "files of the newest versions", "#fdae6b"),
        ("log_entries", "log entries", "#4292c6"),
        ("checkpoints", "checkpoints of logs", "0.6"),
    ):
        disk.plot(batches, [_of_all_tables(one, name) for one in samples], color=colour, label=label)
    disk.set_ylabel("number, all tables")
    disk.set_xlabel(f"batches ({record['parameters']['seconds_per_batch'] / 60:g} minutes pass with each)")
    for axes in (cost, memory, disk):
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small", ncols=4, loc="lower right")
    figure.savefig(out, metadata={"Date": None})
    pyplot.close(figure)


def _of_all_tables(sample: Mapping[str, Any], name: str) -> int:
    return sum(table[name] for table in sample["tables"].values())


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
