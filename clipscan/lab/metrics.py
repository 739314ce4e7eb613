"""Old name of clipscan.lab.grid.metrics, kept for scripts that import it."""

import warnings

from clipscan.lab.grid.metrics import auroc, average_precision, fpr_at, recall_at

__all__ = ["auroc", "average_precision", "fpr_at", "recall_at"]

warnings.warn("clipscan.lab.metrics is clipscan.lab.grid.metrics now", DeprecationWarning, stacklevel=2)
