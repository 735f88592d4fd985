"""One live micro-batch: the plan of who waits, and the room that is made, kept and emptied for it."""
