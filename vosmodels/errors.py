"""Define the errors whose message a command prints to its user. Imports nothing."""


class InputError(Exception):
    """An input (file, folder, weights, reference) that cannot be used.

    The message names the place, the value and the remedy; commands print the message without a
    traceback.
    """


class Absent(InputError):
    """An input that is not on this machine, where another machine may have it."""


class UsageError(Exception):
    """A command line or a configuration that is wrong in itself; commands exit with 2."""
