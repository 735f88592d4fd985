"""The load of `bench latency` where the pages say that Thalweg runs: on a Spark cluster, with S3 below it."""
