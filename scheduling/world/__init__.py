"""The world as placement knows it: tasks, what waits, what sits where."""
