"""Errors whose message is for the person at the command line. Imports nothing."""


class InputError(Exception):
    """Something a person gave (file, folder, weights, reference) cannot be used.

    The message names the place, the value and the remedy; commands print it without a traceback.
    """


class UsageError(Exception):
    """A command line or a configuration is wrong in itself; commands exit with 2."""
