"""Plans: cost, gap, time; and the worked examples."""
