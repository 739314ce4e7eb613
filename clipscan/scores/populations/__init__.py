"""Second populations: rows that belong together, and not to the clean pairs (find.py)."""

from clipscan.scores.populations.evidence import Evidence
from clipscan.scores.populations.find import Populations
from clipscan.scores.populations.population import Population, populated

__all__ = ["Evidence", "Population", "Populations", "populated"]
