"""List what a dataset folder holds and everything wrong with it."""
