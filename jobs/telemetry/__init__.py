"""Parts of `observe`: a micro-batch, what is known to be taken in, what is counted."""
