"""Samples -> vectors: pixels.py and decode.py (bytes to pixels, in processes that may die), model.py (an
encoder), stream.py (batches on their way through it), untrained.py (features that need no encoder), embed.py
(a shard). torch is imported when an encoder is loaded, not before.
"""
