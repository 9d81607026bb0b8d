"""Time a model on random video and tabulate the results."""
