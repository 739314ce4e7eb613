"""Numbers -> neighbour table: dispatch.py checks what comes in (checks.py), chooses a back-end (backends.py)
and calls it; reference.py is the definition of what all back-ends compute.
"""

from clipscan.engine.arrays import Rows, as_rows
from clipscan.engine.backends import choose, reasons, trials
from clipscan.engine.checks import bad_rows, check_rows
from clipscan.engine.dispatch import density, hash_rows, knn, search, search_spans
from clipscan.engine.libraries import like, numpy_of
from clipscan.engine.limits import Counts
from clipscan.engine.neighbors import Neighbors
from clipscan.engine.threads import cores

__all__ = [
    "Counts", "Neighbors", "Rows", "as_rows", "bad_rows", "check_rows", "choose", "cores", "density",
    "hash_rows", "knn", "like", "numpy_of", "reasons", "search", "search_spans", "trials",
]  # fmt: skip
