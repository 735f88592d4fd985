"""Parts of `jobs/observe`."""
