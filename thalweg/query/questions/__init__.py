"""What asks the planner: why a task is where it is or waits, and what would follow from a change."""
