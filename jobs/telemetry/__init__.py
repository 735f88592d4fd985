"""What `observe` decides: samples into the history, the rest into quarantine; and how far its stream is."""
