"""A tree or a random forest of PySpark ML, as Spark saves it, read without Spark: enough of it to answer.

Spark writes a folder: metadata as JSON, nodes as Parquet. A pipeline is read where its stages are a `VectorAssembler`,
which puts columns side by side, and the forest. How a forest answers: each tree gives the shares of the classes among
the training rows of the leaf, and the mean of these is the probability.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from thalweg.federation.explained_classifier import ExplainedClassifier
from thalweg.federation.local_samples import SamplesError
from thalweg.learning.reasons.feature_importance import Numbers

_TREE: Final = "DecisionTreeClassificationModel"
_FOREST: Final = "RandomForestClassificationModel"
_PIPELINE: Final = "PipelineModel"
_ASSEMBLER: Final = "VectorAssembler"
_ALLOWED: Final = f"allowed are {_FOREST} and {_TREE}, alone or behind a {_ASSEMBLER} in a {_PIPELINE}"
_VERSIONS: Final = ("3.", "4.")
"""Of Spark: nodes have been written in this form since 3.0, and a later one may write another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nodes:
    """One tree; a node's place is its id."""

    feature: npt.NDArray[np.int64]
    threshold: Numbers
    left: npt.NDArray[np.int64]
    """-1 of a leaf."""
    right: npt.NDArray[np.int64]
    shares: Numbers
    """[nodes, classes]"""

    def answers(self, rows: Numbers) -> Numbers:
        """[samples, classes] shares of the leaf that each sample comes to."""
        at = np.zeros(len(rows), np.int64)
        every = np.arange(len(rows))
        while (inner := self.left[at] >= 0).any():
            goes_left = rows[every, self.feature[at]] <= self.threshold[at]
            at = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), at)
        return np.asarray(self.shares[at])


def is_spark_model(folder: Path) -> bool:
    """Tell whether a folder is something that Spark ML has saved."""
    return (folder / "metadata").is_dir()


def read_spark_forest(folder: Path, inputs: int) -> tuple[ExplainedClassifier, str]:
    """Read a model.

    Args:
        folder: as Spark wrote it, on a disk here.
        inputs: how many numbers a sample has.

    Returns:
        It, and a digest of its nodes as they lie.

    Raises:
        SamplesError: it is another model, or cannot be read; the text says what can.
        ModuleNotFoundError: pyarrow is not there.
    """
    place, about = _model_in(folder)
    features, classes = about.get("numFeatures"), about.get("numClasses")
    if type(features) is not int:
        raise SamplesError(f"numFeatures in its metadata is {features!r}, allowed is a whole number")
    if features != inputs:
        raise SamplesError(f"it takes {features} features; the samples have {inputs}")
    given = about.get("paramMap", {})
    if not isinstance(given, dict):
        raise SamplesError(f"paramMap in its metadata is {given!r}, allowed are names with values")
    if "thresholds" in given:
        raise SamplesError("it has thresholds, which weigh classes against each other; allowed is a model without")
    if not isinstance(classes, int) or classes < 1:
        raise SamplesError(f"its metadata name no classes; {_ALLOWED}")
    trees = [_nodes(rows, classes, inputs) for rows in _rows_of_trees(place)]
    if not trees:
        raise SamplesError("it has no nodes")

    def scores(rows: Numbers) -> Numbers:
        total = np.zeros((len(rows), classes))
        for tree in trees:
            total += tree.answers(rows)
        return total / len(trees)

    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted((place / "data").glob("*.parquet"))))
    found = ExplainedClassifier(inputs=inputs, names=tuple(range(classes)), scores=scores, shape={"trees": len(trees)})
    return found, digest.hexdigest()


def _model_in(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """Find the forest: the folder itself, or a stage of the pipeline that it is; return its metadata, too."""
    about = _metadata(folder)
    kind = str(about.get("class", "")).rpartition(".")[2]
    if kind != _PIPELINE:
        return _checked(folder, kind, about)
    stages = sorted((folder / "stages").iterdir(), key=lambda one: int(one.name.partition("_")[0]))
    *before, last = [(one, _metadata(one)) for one in stages]
    kinds = [str(found.get("class", "")).rpartition(".")[2] for _, found in (*before, last)]
    if strangers := [one for one in kinds[:-1] if one != _ASSEMBLER]:
        raise SamplesError(f"a stage of it is a {strangers[0]}; {_ALLOWED}")
    return _checked(last[0], kinds[-1], last[1])


def _checked(place: Path, kind: str, about: Mapping[str, Any]) -> tuple[Path, Mapping[str, Any]]:
    if kind not in (_TREE, _FOREST):
        raise SamplesError(
            f"it is a {kind or 'model without a class'}; {_ALLOWED}. Any other classifier can be explained as ONNX"
        )
    version = str(about.get("sparkVersion", ""))
    if not version.startswith(_VERSIONS):
        raise SamplesError(f"Spark {version} wrote it; allowed are {' and '.join(f'{one}x' for one in _VERSIONS)}")
    return place, about


def _metadata(folder: Path) -> Mapping[str, Any]:
    try:
        (file,) = (folder / "metadata").glob("part-*")
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SamplesError(f"{folder.name} is no model of Spark ML: its metadata cannot be read") from error
    if not isinstance(found, dict):
        raise SamplesError(f"{folder.name} is no model of Spark ML: its metadata cannot be read")
    return found


def _rows_of_trees(place: Path) -> list[list[dict[str, Any]]]:
    """Read each tree's nodes, by id."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows = parquet.read_table(place / "data").to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise SamplesError(f"the nodes of {place.name} cannot be read: {error}") from error
    trees: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        trees.setdefault(row.get("treeID", 0), []).append(row.get("nodeData", row))
    return [trees[number] for number in sorted(trees)]


def _nodes(rows: list[dict[str, Any]], classes: int, inputs: int) -> _Nodes:
    nodes = _as_written(rows, classes)
    inner = np.flatnonzero((nodes.left >= 0) | (nodes.right >= 0))
    children = np.concatenate([nodes.left[inner], nodes.right[inner]])
    # Spark numbers a node before its children, and every node but the root is somebody's child.
    if (children <= np.tile(inner, 2)).any() or not np.array_equal(np.sort(children), np.arange(1, len(rows))):
        raise SamplesError("its nodes are no tree")
    if not ((nodes.feature[inner] >= 0) & (nodes.feature[inner] < inputs)).all():
        raise SamplesError(f"a node of it asks for a feature that is not there; allowed are 0 to {inputs - 1}")
    if not np.isfinite(nodes.threshold[inner]).all():
        raise SamplesError("a node of it splits at no finite number")
    leaves = nodes.shares[nodes.left < 0]
    if not (np.isfinite(leaves).all() and (leaves >= 0.0).all()):
        raise SamplesError("a leaf of it has shares of classes that are no shares")
    return nodes


def _as_written(rows: list[dict[str, Any]], classes: int) -> _Nodes:
    try:
        rows = sorted(rows, key=lambda node: node["id"])
        if [row["id"] for row in rows] != list(range(len(rows))):
            raise SamplesError("its nodes are not numbered from 0; Spark wrote another form than is known here")
        if any(row["split"]["numCategories"] >= 0 for row in rows):
            raise SamplesError("it splits by categories; allowed are splits of numbers")
        counts = np.array([row["impurityStats"] for row in rows], np.float64).reshape(-1, classes)
        sums = counts.sum(axis=1, keepdims=True)
        return _Nodes(
            feature=np.array([row["split"]["featureIndex"] for row in rows], np.int64),
            threshold=np.array(
                [(row["split"]["leftCategoriesOrThreshold"] or [np.nan])[0] for row in rows], np.float64
            ),
            left=np.array([row["leftChild"] for row in rows], np.int64),
            right=np.array([row["rightChild"] for row in rows], np.int64),
            shares=np.divide(counts, sums, out=np.full_like(counts, np.nan), where=sums > 0.0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SamplesError(f"its nodes have another form than is known here ({error!r})") from error
