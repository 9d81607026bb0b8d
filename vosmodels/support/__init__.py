"""Command lines, files, processes, seeds and provenance that every room uses."""
