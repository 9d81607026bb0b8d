"""Read video and image datasets, draw synthetic clips, and cut training clips."""
