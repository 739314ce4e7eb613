"""A CLIP trained on the dataset at hand, which is what the method needs. torch comes in when it is called."""

from clipscan.train.recipe import SafeClip
from clipscan.train.train import train_clip

__all__ = ["SafeClip", "train_clip"]
