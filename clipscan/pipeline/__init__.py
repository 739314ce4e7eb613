"""What clipscan does with a dataset and with a run, all rooms joined: a function for each command."""

from clipscan.pipeline.scanning import Scan, embed, knn, scan, scan_with, score
from clipscan.pipeline.verbs import (
    apply,
    calibrate,
    draw_map,
    explain,
    export,
    invert,
    partition,
    report,
    serve,
)

__all__ = [
    "Scan",
    "apply",
    "calibrate",
    "draw_map",
    "embed",
    "explain",
    "export",
    "invert",
    "knn",
    "partition",
    "report",
    "scan",
    "scan_with",
    "score",
    "serve",
]
