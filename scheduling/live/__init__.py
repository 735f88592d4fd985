"""One live micro-batch: what follows from what arrived, and the plan."""
