"""Random forests learned region by region in PySpark ML, and the answer that all of them vote for.

    spark-submit … docs/tutorial/examples/vote_by_region.py WAREHOUSE

Reads the Delta table `digits` (deal_digits.py), in which each image is one region's or held out. Each region's forest
sees that region's rows alone; what is brought together are forests, not images. Their answers are weighed by how many
images they were trained on: as votes, or as mean probabilities. Beside it, the same pipeline is trained on everything.
Writes the tables `digit_answers`, an answer for each image held out, and `digit_accuracy`.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import RandomForestClassifier
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 (as Spark's own documentation calls it)

TOGETHER = "all regions together"
CENTRAL = "all images in one place"


@dataclass(frozen=True, kw_only=True)
class Forest:
    """What one region has learned."""

    model: PipelineModel
    images: int
    """How many it was trained on: its weight."""


def pipeline(pixels: Sequence[str], trees: int, seed: int) -> Pipeline:
    """Describe the training, the same in every region and in one place."""
    assembler = VectorAssembler(inputCols=list(pixels), outputCol="features")
    forest = RandomForestClassifier(labelCol="label", numTrees=trees, maxDepth=12, seed=seed)
    return Pipeline(stages=[assembler, forest])


def learned_by_region(training: DataFrame, learning: Pipeline) -> dict[str, Forest]:
    """Train a forest for each region, on that region's rows alone.

    Args:
        training: rows with `region`.
        learning: what is trained.
    """
    counts = {row["region"]: row["count"] for row in training.groupBy("region").count().collect()}
    return {
        region: Forest(model=learning.fit(training.where(F.col("region") == region)), images=counts[region])
        for region in sorted(counts)
    }


def brought_together(images: DataFrame, forests: Mapping[str, Forest], classes: int, combine: str) -> DataFrame:
    """Answer by all forests: `prediction` is the class with most weight, the lowest of several.

    Args:
        images: to be answered.
        forests: by region.
        classes: how many there are; a region that never saw the last ones knows fewer.
        combine: `vote`, each for one class, or `average`, of probabilities.
    """
    columns = images.columns
    for number, region in enumerate(sorted(forests)):
        answered = forests[region].model.transform(images)
        weights = _weights(combine, classes, forests[region].images).alias(f"weights_{number}")
        images = answered.select(*columns, *(f"weights_{earlier}" for earlier in range(number)), weights)
    each = [F.col(f"weights_{number}") for number in range(len(forests))]
    weight = reduce(lambda one, other: F.zip_with(one, other, lambda a, b: a + b), each)
    heaviest = F.array_position(F.col("weight"), F.array_max("weight")) - 1
    return images.select(*columns, weight.alias("weight")).withColumn("prediction", heaviest.cast("double"))


def _weights(combine: str, classes: int, images: int) -> Column:
    """Weigh one forest's answer: a number for each class."""
    every_class = F.sequence(F.lit(0), F.lit(classes - 1))
    if combine == "vote":
        return F.transform(every_class, lambda each: F.when(F.col("prediction") == each, float(images)).otherwise(0.0))
    probability = vector_to_array("probability")
    return F.transform(every_class, lambda each: F.coalesce(F.get(probability, each), F.lit(0.0)) * images)


def carry_out(
    spark: SparkSession, warehouse: str, trees: int, combine: str, seed: int, save: str | None = None
) -> list[tuple[str, int, float]]:
    """Read, learn, judge and write; return who has learned, from how many images, and how well.

    Args:
        spark: the session.
        warehouse: folder or URI of the tables.
        trees: of each forest.
        combine: see `brought_together`.
        seed: of the forests.
        save: folder for the pipeline that was trained in one place; None for nowhere.
    """
    digits = spark.read.format("delta").load(f"{warehouse}/digits").cache()
    training, held_out = digits.where("NOT held_out"), digits.where("held_out")
    classes = int(digits.agg(F.max("label")).first()[0]) + 1
    learning = pipeline([name for name in digits.columns if name.startswith("pixel_")], trees, seed)
    judge = MulticlassClassificationEvaluator(labelCol="label", predictionCol="prediction", metricName="accuracy")

    forests = learned_by_region(training, learning)
    answers = brought_together(held_out, forests, classes, combine).cache()
    central = learning.fit(training)
    everything = training.count()
    accuracy = [
        *((region, one.images, judge.evaluate(one.model.transform(held_out))) for region, one in forests.items()),
        (TOGETHER, everything, judge.evaluate(answers)),
        (CENTRAL, everything, judge.evaluate(central.transform(held_out))),
    ]

    answers.select("image", "label", "prediction", "weight").write.format("delta").mode("overwrite").save(
        f"{warehouse}/digit_answers"
    )
    told = spark.createDataFrame(accuracy, "who string, images long, accuracy double")
    if save is not None:
        central.write().overwrite().save(save)
    told.coalesce(1).write.format("delta").mode("overwrite").save(f"{warehouse}/digit_accuracy")
    return accuracy


def main() -> None:
    """Run as a Spark application."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("warehouse", help="folder or URI of the Delta tables")
    parser.add_argument("--trees", type=int, default=60, help="of each forest (default: 60)")
    parser.add_argument("--combine", choices=["vote", "average"], default="vote", help="default: vote")
    parser.add_argument("--save", metavar="FOLDER", help="keep the pipeline that was trained on everything there")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    spark = SparkSession.builder.appName("vote-by-region").getOrCreate()
    for who, images, accuracy in carry_out(
        spark, chosen.warehouse.rstrip("/"), chosen.trees, chosen.combine, chosen.seed, chosen.save
    ):
        print(f"{who:32} {images:6} {accuracy:.4f}")
    spark.stop()


if __name__ == "__main__":
    main()
