"""`clipscan serve`: the page of a run whose rows do not fit in one file, over a small API on loopback."""

from clipscan.report.serve.server import Serving, open_server

__all__ = ["Serving", "open_server"]
