"""Samples -> vectors: pixels.py and decode.py (bytes to pixels, in processes that may crash), model.py (an
encoder), encoding_lanes.py (batches on their way through it), untrained.py (features that need no encoder),
embed_shard.py (a shard). torch is imported when an encoder is loaded, not before.
"""
