"""What `thalweg doctor` looks at, one subject a file; every look ends in findings that carry their own remedy."""
