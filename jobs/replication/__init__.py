"""Parts of `replicate`: very many keys merged by Spark tasks, and the upkeep of its tables."""
