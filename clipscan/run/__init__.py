"""Stages, tasks, resume: from a dataset to ranked suspects in a run folder.

Order of work: embed_stage, trusted_stage (where a second model is given), graph_stage, score_stage,
retrieval_stage, select_stage. Each can be killed at any moment and called again; finished tasks are not
repeated. All take a Run.
"""

from clipscan.run.check_learnt import retrieval_stage
from clipscan.run.embedding import embed_stage
from clipscan.run.graph import graph_stage
from clipscan.run.options import Compute, Encoding, Models, Ranking, Reading
from clipscan.run.progress import Progress, Silent
from clipscan.run.run import Run
from clipscan.run.run_folder import RunFolder
from clipscan.run.scoring import score_stage
from clipscan.run.selecting import select_stage
from clipscan.run.status import status
from clipscan.run.trusted import trusted_stage

__all__ = [
    "Compute",
    "Encoding",
    "Models",
    "Progress",
    "Ranking",
    "Reading",
    "Run",
    "RunFolder",
    "Silent",
    "embed_stage",
    "graph_stage",
    "retrieval_stage",
    "score_stage",
    "select_stage",
    "status",
    "trusted_stage",
]
