"""Ids as types of their own, so that a task's is never taken for a region's.

They are made where something is decoded or invented. What is decoded from messages has them already, because the
messages' types name them; everything else hands on what it was given.
"""

from typing import NewType

TaskId = NewType("TaskId", str)
RegionId = NewType("RegionId", str)
PoolId = NewType("PoolId", str)
"""See `scheduling.pack.pool_ids`: nothing else takes one apart."""
NodeId = NewType("NodeId", str)
"""As its region names it: unique within the region only."""
