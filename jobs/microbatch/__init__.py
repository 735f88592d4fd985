"""One micro-batch, whoever's it is: read, decide, do the steps in their order, look after what is kept."""
