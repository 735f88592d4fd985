"""Parts of `jobs/replicate`."""
