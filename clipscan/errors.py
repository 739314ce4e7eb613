"""What clipscan raises. Every message names the place (file, row) and the remedy.

All derive from ClipscanError, so that a pipeline can catch one name; those that are also a
ValueError or a RuntimeError are what a NumPy user would expect to catch.
"""


class ClipscanError(Exception):
    """Base of every error that clipscan raises on purpose; the command exits with 1."""


class InputError(ClipscanError, ValueError):
    """An argument or an array that cannot be served: wrong shape, NaN row, k out of range."""


class BackendError(ClipscanError, RuntimeError):
    """A back-end was asked for by name and cannot serve; says why."""


class DataError(ClipscanError):
    """A dataset or one of its files cannot be read; says what was found there."""


class RunError(ClipscanError):
    """A run folder refuses: other settings, missing stage, foreign files."""


class DeviceLost(ClipscanError):
    """A device failed and computes no more; names it. What it was working on can be done by another."""
