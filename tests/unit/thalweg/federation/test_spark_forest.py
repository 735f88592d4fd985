"""Forests as Spark saves them: from files of its form here, held against Spark itself in tests/spark."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from thalweg.cli.explain_model_command import explain_model
from thalweg.federation.local_samples import SamplesError
from thalweg.federation.spark_forest import is_spark_model, read_spark_forest

CLASS = "org.apache.spark.ml.classification."
FOREST, TREE = f"{CLASS}RandomForestClassificationModel", f"{CLASS}DecisionTreeClassificationModel"
ASSEMBLER = "org.apache.spark.ml.feature.VectorAssembler"


def node(number: int, counts: list[float], *, left: int = -1, right: int = -1, by: int = -1, at: float = 0) -> Any:
    split = {"featureIndex": by, "leftCategoriesOrThreshold": [at] if by >= 0 else [], "numCategories": -1}
    return {"id": number, "impurityStats": counts, "leftChild": left, "rightChild": right, "split": split}


def stump(by: int, at: float, left: list[float], right: list[float]) -> list[Any]:
    return [node(0, [0, 0, 0], left=1, right=2, by=by, at=at), node(1, left), node(2, right)]


def about(folder: Path, kind: str, **more: Any) -> Path:
    (folder / "metadata").mkdir(parents=True)
    told = {"class": kind, "sparkVersion": "4.2.0", "paramMap": {}, **more}
    (folder / "metadata" / "part-00000.txt").write_text(json.dumps(told))
    return folder


def saved(folder: Path, trees: list[list[Any]], kind: str = FOREST, **more: Any) -> Path:
    about(folder, kind, **{"numFeatures": 4, "numClasses": 3, **more})
    (folder / "data").mkdir()
    rows = [{"treeID": number, "nodeData": one} for number, tree in enumerate(trees) for one in reversed(tree)]
    if kind == TREE:
        rows = [row["nodeData"] for row in rows]
    whole = pa.Table.from_pylist(rows)
    for begin in (0, 1):  # Spark writes several files, in no order
        parquet.write_table(
            whole.take(pa.array(range(begin, len(rows), 2), pa.int64())), folder / "data" / f"part-{begin}.parquet"
        )
    (folder / "data" / "_SUCCESS").touch()
    return folder


TREES = [stump(1, 0.5, [3, 1, 0], [0, 0, 2]), stump(1, 0.5, [1, 0, 0], [0, 1, 1])]


def test_the_mean_of_the_leaves_shares_is_the_answer_and_the_border_goes_left(tmp_path: Path) -> None:
    found, _ = read_spark_forest(saved(tmp_path / "forest", TREES), 4)
    x = np.zeros((2, 4))
    x[:, 1] = [0.5, 0.500001]
    assert found.scores(x).tolist() == [[0.875, 0.125, 0.0], [0.0, 0.25, 0.75]]
    assert found.named(x).tolist() == [0, 2]
    alone, _ = read_spark_forest(saved(tmp_path / "tree", TREES[:1], TREE), 4)
    assert alone.scores(x).tolist() == [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]


def test_a_pipeline_behind_an_assembler_is_explained_by_the_command(tmp_path: Path) -> None:
    pipeline = about(tmp_path / "pipeline", "org.apache.spark.ml.PipelineModel")
    about(pipeline / "stages" / "0_a", ASSEMBLER)
    saved(pipeline / "stages" / "1_f", TREES)
    x = np.random.default_rng(1).random((80, 4)).astype(np.float32)
    np.savez(tmp_path / "held-out.npz", x=x, y=np.where(x[:, 1] <= 0.5, 0, 2))
    options = [str(pipeline), f"--samples={tmp_path / 'held-out.npz'}"]
    told = json.loads(CliRunner().invoke(explain_model, [*options, "--json"]).output)
    assert (told["trees"], told["classes"], told["accuracy"]) == (2, 3, 1.0)
    assert told["importance"][0]["feature"] == 1 and told["answer"]["values"][0]["feature"] == 1
    assert [row["feature"] for row in told["counterfactual"]["changes"]] == [1]
    assert "4 inputs, 2 trees, 3 classes" in CliRunner().invoke(explain_model, options).output
    assert is_spark_model(pipeline) and not is_spark_model(tmp_path)


def broken(place: str, folder: Path) -> Path:
    cut = [node(0, [1, 0, 0], left=1, right=3, by=0), node(1, [1, 0, 0]), node(3, [0, 1, 0])]
    by_name = stump(1, 0.5, [1, 0, 0], [0, 1, 0])
    by_name[0]["split"]["numCategories"] = 3
    match place:
        case "boosted":
            return saved(folder, TREES, f"{CLASS}GBTClassificationModel")
        case "newer":
            return saved(folder, TREES, sparkVersion="5.0.0")
        case "narrow":
            return saved(folder, TREES, numFeatures=3)
        case "weighed":
            return saved(folder, TREES, paramMap={"thresholds": [1, 2, 3]})
        case "cut":
            return saved(folder, [cut])
        case "categories":
            return saved(folder, [by_name])
        case "other nodes":
            return saved(folder, [[{"id": 0, "what": 1}]])
        case "no nodes":
            return about(folder, FOREST, numFeatures=4, numClasses=3)
        case "scaled":
            about(folder, "org.apache.spark.ml.PipelineModel")
            about(folder / "stages" / "0_s", "org.apache.spark.ml.feature.StandardScalerModel")
            saved(folder / "stages" / "1_f", TREES)
        case "nothing":
            (folder / "metadata").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("boosted", "it is a GBTClassificationModel; allowed are RandomForestClassificationModel"),
        ("newer", "Spark 5.0.0 wrote it; allowed are 3.x and 4.x"),
        ("narrow", "it takes 3 features; the samples have 4"),
        ("weighed", "it has thresholds"),
        ("cut", "not numbered from 0"),
        ("categories", "it splits by categories"),
        ("other nodes", "another form than is known here"),
        ("no nodes", "the nodes of model cannot be read"),
        ("scaled", "a stage of it is a StandardScalerModel; allowed are"),
        ("nothing", "model is no model of Spark ML"),
    ],
)
def test_what_is_no_forest_of_sparks_form_is_refused_with_what_is(place: str, words: str, tmp_path: Path) -> None:
    folder = broken(place, tmp_path / "model")
    with pytest.raises(SamplesError, match=words):
        read_spark_forest(folder, 4)
    np.savez(tmp_path / "held-out.npz", x=np.zeros((3, 4)), y=np.arange(3))
    told = CliRunner().invoke(explain_model, [str(folder), f"--samples={tmp_path / 'held-out.npz'}"])
    assert told.exit_code == 2 and words in told.output, told.output


def with_node(number: int, **changed: Any) -> list[Any]:
    tree = stump(1, 0.5, [3, 1, 0], [0, 0, 2])
    split = {name: changed.pop(name) for name in ("featureIndex", "leftCategoriesOrThreshold") if name in changed}
    tree[number] |= changed
    tree[number]["split"] |= split
    return tree


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (with_node(0, leftChild=0), "no tree"),
        (with_node(0, rightChild=99), "no tree"),
        (with_node(0, rightChild=-7), "no tree"),
        (with_node(0, rightChild=-1), "no tree"),
        (with_node(0, rightChild=1), "no tree"),
        (with_node(1, leftChild=0, rightChild=2), "no tree"),
        ([*stump(1, 0.5, [1, 0, 0], [0, 1, 0]), node(3, [1, 0, 0])], "no tree"),
        (with_node(0, featureIndex=4), "0 to 3"),
        (with_node(0, featureIndex=-3), "0 to 3"),
        (with_node(0, leftCategoriesOrThreshold=[]), "no finite number"),
        (with_node(0, leftCategoriesOrThreshold=[float("nan")]), "no finite number"),
        (with_node(2, impurityStats=[float("nan"), 1.0, 0.0]), "no shares"),
        (with_node(2, impurityStats=[-5.0, 3.0, 0.0]), "no shares"),
    ],
)
def test_nodes_that_are_no_tree_are_refused_and_never_followed(tmp_path: Path, tree: list[Any], words: str) -> None:
    with pytest.raises(SamplesError, match=words):
        read_spark_forest(saved(tmp_path / "broken", [tree]), 4)


@pytest.mark.parametrize("more", [{"numFeatures": "4"}, {"paramMap": 5}, {"numClasses": 0}])
def test_metadata_of_another_kind_are_refused_with_what_was_seen(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(SamplesError, match="metadata"):
        read_spark_forest(saved(tmp_path / "broken", TREES, **more), 4)


def test_a_forest_without_nodes_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "empty", TREES)
    for file in (folder / "data").glob("*.parquet"):
        parquet.write_table(parquet.read_table(file).slice(0, 0), file)
    with pytest.raises(SamplesError, match="no nodes"):
        read_spark_forest(folder, 4)
