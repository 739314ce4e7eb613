"""clipscan as scikit-learn estimators: outliers and exact neighbour graphs. Needs scikit-learn 1.6 or newer:
pip install 'clipscan[sklearn]'.
"""

from clipscan.sklearn.consensus import ConsensusDetector
from clipscan.sklearn.lof import LocalOutlierFactor
from clipscan.sklearn.transformer import ExactKNeighborsTransformer

__all__ = ["ConsensusDetector", "ExactKNeighborsTransformer", "LocalOutlierFactor"]
