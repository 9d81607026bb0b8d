"""Provide command lines, files, processes, seeds and provenance to all rooms."""
