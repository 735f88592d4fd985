"""The relaxed problem in one dimension as a flow: network simplex, column generation, OR-Tools beside it."""
