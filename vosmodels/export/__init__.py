"""Export a student as two graphs of fixed shape, and run them without torch."""
