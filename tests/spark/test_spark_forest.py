"""A forest and a tree that Spark saved, read without it: the classes that Spark names, of probabilities to 1e-15."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from thalweg.federation.spark_forest import read_spark_forest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def test_what_is_read_answers_as_spark_does(spark: "SparkSession", tmp_path: Path) -> None:
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import DecisionTreeClassifier, RandomForestClassifier
    from pyspark.ml.feature import VectorAssembler

    chance = np.random.default_rng(0)
    x = chance.standard_normal((300, 3)).round(1)  # many on a border
    y = (x[:, 1] > 0).astype(float) + (x[:, 2] > 1)
    y[chance.random(300) < 0.2] = 0  # leaves of several classes
    named = "a double, b double, c double, label double"
    frame = spark.createDataFrame([(*map(float, row), float(label)) for row, label in zip(x, y, strict=True)], named)
    assembler = VectorAssembler(inputCols=["a", "b", "c"], outputCol="features")
    for kind in (
        RandomForestClassifier(labelCol="label", numTrees=7, maxDepth=6, seed=1),
        DecisionTreeClassifier(labelCol="label", maxDepth=6),
    ):
        model = Pipeline(stages=[assembler, kind]).fit(frame)
        folder = tmp_path / type(kind).__name__
        model.write().save(str(folder))
        told = model.transform(frame).select("a", "b", "c", "probability", "prediction").collect()
        rows = np.array([[row["a"], row["b"], row["c"]] for row in told])
        found, _ = read_spark_forest(folder, 3)
        assert found.named(rows).tolist() == [int(row["prediction"]) for row in told]
        theirs = np.array([row["probability"].toArray() for row in told])
        assert np.abs(found.scores(rows) - theirs).max() < 1e-15
