"""Generated pictures with free captions, and as a dataset: the demo's data, without network or licence.

objects.py says what a scene is made of, drawing.py paints it, captions.py describes it, dataset.py is a
reader of it; repetitions.py and damaged_tars.py add what real crawls have besides.
"""

from clipscan.lab.scenes.dataset import Scenes
from clipscan.lab.scenes.drawing import SHAPES, Scene, scene

__all__ = ["SHAPES", "Scene", "Scenes", "scene"]
