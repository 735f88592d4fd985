"""The global problem: what is asked, what it costs, what an answer is."""
