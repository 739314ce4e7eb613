"""Backdoors seen inside a ViT: which heads and MLPs a trigger acts through (He et al., ICML 2025).

decompose.py writes an embedding as an exact sum over heads and MLPs (tower.py checks of which
models); statistics.py compares the terms with those of clean pictures and repairs; fit.py learns these
from a clean dataset and fit_file.py keeps them; scan.py goes over a dataset, repaired.py is an encoder whose
picture vectors are repaired. torch is imported when an encoder is there, not before.
"""
