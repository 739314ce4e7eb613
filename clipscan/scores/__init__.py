"""Neighbour table -> one column each: how suspicious every row is.

`score` (score_embeddings.py) is the library's front door; AllScores (all_scores.py) is the same thing a slice
at a time; table.py lists the scores.
"""

from clipscan.scores.all_scores import AllScores
from clipscan.scores.arguments import chosen_methods
from clipscan.scores.result import ScoreResult
from clipscan.scores.score_embeddings import DEFAULT_K, DEFAULT_REFERENCE, score
from clipscan.scores.table import ELSEWHERE, FROM_GRAPH, JOINT, LOCAL, METHODS, NEED_TEXT

__all__ = [
    "DEFAULT_K", "DEFAULT_REFERENCE", "ELSEWHERE", "FROM_GRAPH", "JOINT", "LOCAL", "METHODS", "NEED_TEXT",
    "AllScores", "ScoreResult", "chosen_methods", "score",
]  # fmt: skip
