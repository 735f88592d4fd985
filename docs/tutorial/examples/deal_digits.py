"""Deal scikit-learn's digits out to the regions of a warehouse: the Delta table `digits`, a row for each image.

    python docs/tutorial/examples/deal_digits.py WAREHOUSE --alpha 1

The regions are those with ready nodes in Thalweg's own table `nodes`. A fifth of the images is nobody's: it judges.
With --files each region's images are written to a file for `thalweg federate take-part --samples`, too.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from sklearn.datasets import load_digits

from thalweg.learning.local.dealing import dealt
from thalweg.query.sql.query import query

HELD_OUT: Final = 0.2


def regions_of(warehouse: str) -> list[str]:
    """Name the regions that have nodes to train on."""
    rows = query("SELECT DISTINCT region FROM nodes WHERE state = 'ready' ORDER BY region", warehouse).dicts()
    return [row["region"] for row in rows]


def dealt_digits(regions: Sequence[str], alpha: float, seed: int) -> pa.Table:
    """Give each training image a region, as unevenly as `alpha` says (Dirichlet; small is uneven).

    Args:
        regions: who gets images.
        alpha: concentration, of each class over the regions.
        seed: of the dealing, and of what is held out.
    """
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng([seed, 1]).permutation(labels.size)
    held_out, training = np.split(order, [round(HELD_OUT * labels.size)])
    owner = np.full(labels.size, None, object)
    for region, images_of_it in zip(regions, dealt(labels[training], len(regions), alpha, seed), strict=True):
        owner[training[images_of_it]] = region
    columns = {
        "image": pa.array(range(labels.size), pa.int64()),
        "region": pa.array(owner, pa.string()),  # null: held out
        "held_out": pa.array(np.isin(np.arange(labels.size), held_out)),
        "label": pa.array(labels, pa.float64()),
    }
    pixels = {f"pixel_{number:02}": pa.array(images[:, number], pa.float64()) for number in range(images.shape[1])}
    return pa.table(columns | pixels)


def write_files(table: pa.Table, folder: Path) -> None:
    """Write each region's images as FOLDER/REGION.npz, what nobody has as FOLDER/held-out.npz; pixels are 0 to 1."""
    pixels = np.stack([table[name].to_numpy() for name in table.column_names if name.startswith("pixel_")], axis=1)
    owner, labels = np.array(table["region"].to_pylist(), object), table["label"].to_numpy().astype(np.int64)
    for region in sorted({*owner}, key=str):
        of_it = owner == region
        np.savez(folder / f"{region or 'held-out'}.npz", x=pixels[of_it].astype(np.float32) / 16, y=labels[of_it])


def main() -> None:
    """Deal them out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("warehouse", help="folder or URI of the Delta tables")
    parser.add_argument("--alpha", type=float, default=1.0, help="small deals unevenly (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=Path, help="folder of each region's own file")
    chosen = parser.parse_args()
    regions = regions_of(chosen.warehouse)
    if not regions:
        parser.error(f"{chosen.warehouse} has no region with ready nodes: start an agent, and wait until it is heard")
    table = dealt_digits(regions, chosen.alpha, chosen.seed)
    write_deltalake(f"{chosen.warehouse.rstrip('/')}/digits", table, mode="overwrite")
    if chosen.files is not None:
        write_files(table, chosen.files)
    print(f"{table.num_rows} images dealt out to {', '.join(regions)}")


if __name__ == "__main__":
    main()
