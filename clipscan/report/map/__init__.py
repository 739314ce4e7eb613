"""The map of a run: its samples in two dimensions, near ones near, from the exact neighbour graph."""

from clipscan.report.map.layout import layout
from clipscan.report.map.map_file import draw_map, read_map

__all__ = ["draw_map", "layout", "read_map"]
