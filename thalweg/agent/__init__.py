"""The regional agent: runs what its region is assigned, and reports what becomes of it."""
