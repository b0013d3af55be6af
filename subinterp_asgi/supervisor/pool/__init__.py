"""What runs: the workers, their slots, and the two kinds of place that a worker can run in."""
