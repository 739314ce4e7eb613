"""Old name of clipscan.lab.attacks, kept for scripts that import it."""

import warnings

from clipscan.lab.attacks import Poisoned, poison, read_truth

__all__ = ["Poisoned", "poison", "read_truth"]

warnings.warn("clipscan.lab.poison is clipscan.lab.attacks now", DeprecationWarning, stacklevel=2)
