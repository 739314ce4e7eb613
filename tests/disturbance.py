"""`pytest --disturb SEED` shows that nothing stands on luck: the weights of planted.py, and of every network
that is to be trained, are moved by about a thousandth, and what a test draws is drawn anew (from SEED).
tests/robust.py does so for many seeds, and with less of the processor in use.
"""

from __future__ import annotations

import os

SEED = int(os.environ.get("CLIPSCAN_DISTURB", "0"))  # 0: everything as it is
SHARE = 1e-3  # of a tensor's root mean square: what each of its weights is moved by, on average


def disturbed(state):
    """name -> tensor, under --disturb each weight a little beside where it was."""
    import torch

    if not SEED:
        return dict(state)
    draw = torch.Generator().manual_seed(SEED)

    def moved(tensor):
        size = tensor.detach().square().mean().sqrt()
        return tensor + SHARE * size * torch.randn(tensor.shape, generator=draw)

    kept = ("running_var", "num_batches_tracked")  # no weights: the one must stay above zero
    return {name: tensor if name.endswith(kept) else moved(tensor) for name, tensor in state.items()}


def _disturb_new_networks() -> None:
    """Every network that open_clip makes without weights from a file begins disturbed."""
    from clipscan.embed.open_clip import import_open_clip

    open_clip = import_open_clip()
    create = open_clip.create_model

    def create_model(*names, **options):
        network = create(*names, **options)
        if not options.get("load_weights", True):
            network.load_state_dict(disturbed(network.state_dict()))
        return network

    open_clip.create_model = create_model


if SEED:
    _disturb_new_networks()
