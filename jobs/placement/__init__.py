"""Parts of `jobs/place`."""
