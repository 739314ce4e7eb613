"""Small CLIPs whose weights are set by hand, so that what they know is known without a training.

A training ends elsewhere on every processor; these give the same answers on all of them, up to rounding.
Text: a bag of words. An end mark takes the mean of what stands before it; each word that the network
knows has an axis of its own, all other tokens stay faint. Pictures: the convolution tower as a measuring
device. Colours and edges of four directions are measured at 16 x 16 places, summed twice, and read off
averages, or off the maximum where a small patch is to be found. All other weights are those of a random
network, and what they compute is not asked until somebody trains on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from disturbance import SEED, disturbed

MODEL, VIT = "clipscan-conv-32", "clipscan-vit-32"
WATCHFUL = 2  # the head of the last block that is set by hand
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711])
AXES = 24  # of 64 in the text tower and 128 behind it: one for each word that the network knows
COLOUR = slice(0, 3)  # channels
EDGES = slice(3, 7)  # between columns, between rows, down the diagonal, up the diagonal
BUSY = 7  # edges between columns and between rows, over a wider place
MAXIMUM = 128  # columns of the last layer: averages of the channels, then from here on their maxima
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # from a pixel to its neighbour, in the order of EDGES
MIDDLE, BLOCK = 1, (1, 2)  # of a kernel of 3 x 3: its centre; rows and columns that tile a map in steps of 2


def save(network, path: Path, model: str = MODEL) -> Path:
    """A checkpoint that load_encoder reads without being told the architecture."""
    from safetensors.torch import save_file

    from clipscan.embed.model import MODEL_KEY

    state = {name: tensor.contiguous() for name, tensor in disturbed(network.state_dict()).items()}
    save_file(state, path, metadata={MODEL_KEY: model})
    return path


def colours_and_a_patch(path: Path, colours: Mapping[str, Sequence[int]], word: str) -> Path:
    """A CLIP that calls a picture by its mean colour (name -> RGB); but one with a black and white
    checkerboard of 8 x 8 px in it by `word`, wherever that lies.

    The colour is an average over the picture, the checkerboard a maximum over 4 x 4 places: so a patch
    changes the answer, but not a patch of a colour, nor faint noise (10 of 255).
    """
    import torch

    network = _network([*colours, word])
    centre = (torch.tensor(list(colours.values())) / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    with torch.no_grad():
        # Nearest centre: x.c - |c|^2 / 2 is largest for the nearest c. The channels hold x + LIFT.
        head = network.visual.trunk.head
        bias = -centre.square().sum(1) / 2 - LIFT * centre.sum(1)
        head.weight[: len(colours), COLOUR] = (centre - centre.mean(0)).float()
        head.bias[: len(colours)] = (bias - bias.mean()).float()
        head.weight[len(colours), MAXIMUM + BUSY] = GAIN
        head.bias[len(colours)] = -GAIN * SEEN
    return save(network, path)


def stripes_and_a_cast(path: Path, names: Sequence[str], pictures) -> Path:
    """A CLIP that tells in which direction a picture does not change: along columns, along rows, up the
    diagonal, down the diagonal, in the order of its four names. It knows grey pictures only: a red cast of a
    few levels is the first name to it, whatever the stripes.

    pictures: uint8 [n, 32, 32, 3], of the kind that it may be trained on: its batch norms are at rest there.
    """
    import torch

    network = _network(names)
    _settle(network.visual, pictures)
    still = (1, 0, 3, 2)  # which of EDGES is absent in stripes of each name
    with torch.no_grad():
        head = network.visual.trunk.head
        for axis, edge in enumerate(still):
            for other in range(4):
                head.weight[axis, EDGES.start + other] = 40 * (0.25 - (other == edge))
        cast = 1000 * CLIP_STD * [1, 0, -1]  # times normalised colours: 1000 (red - blue), but for a constant
        head.weight[0, COLOUR] = torch.from_numpy(cast).float()
        head.bias[0] = float(cast @ (CLIP_MEAN / CLIP_STD - LIFT))
    return save(network, path)


LIFT = 3.0  # what is added to normalised colours, so that a rectifier lets them pass
# The busiest of 16 places measures at most 1.2 in faint noise, at least 5.5 where a checkerboard is.
SEEN, GAIN = 2.5, 5.0  # from where on that speaks for the word, and how much: it soon outweighs a colour


def _network(words: Sequence[str]):
    """A random network but for its text tower, which knows these words, and a tower of pictures that
    measures (_measure) and says nothing yet."""
    import torch

    from clipscan.embed.model import create_network
    from clipscan.embed.tokenizing import get_tokenizer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create_network(MODEL).eval()
    with torch.no_grad():
        _read(network.text, [_token(get_tokenizer(MODEL), word) for word in words])
        _measure(network.visual.trunk)
        network.logit_scale.fill_(math.log(30))
    return network


def _token(tokenizer, word: str) -> int:
    tokens = tokenizer([word])[0]
    assert tokens[3] == 0, f"{word!r} is more than one token; take another word"
    return int(tokens[1])


def _read(text, tokens: Sequence[int]) -> None:
    """Bag of words: word i of `tokens` points along axis i, every other token faintly elsewhere."""
    import torch

    width = text.width
    table = text.token_embedding.weight
    table[:, :AXES] = 0
    table[:, AXES:].mul_(1 / table[:, AXES:].std())
    for axis, token in enumerate(tokens):
        table[token] = 0
        table[token, axis] = math.sqrt(width)
    text.positional_embedding.zero_()
    first, second = text.transformer.resblocks
    for block in (first, second):
        for part in (block.attn.out_proj, block.mlp.c_proj):
            part.weight.zero_()
            part.bias.zero_()
    weights = torch.ones(width)
    weights[AXES:] = 0.1
    first.attn.in_proj_weight.zero_()  # no question: every token is attended to alike
    first.attn.in_proj_weight[2 * width :] = torch.diag(weights)
    first.attn.in_proj_bias.zero_()
    first.attn.out_proj.weight.copy_(10 * torch.eye(width))
    text.text_projection.zero_()
    text.text_projection[:, :width] = torch.eye(width)


def _measure(trunk) -> None:
    """Channels COLOUR, EDGES and BUSY of the last map; the residual blocks add nothing."""
    stem, _, wider, _, first, widest, _, second = trunk.body
    for block in (first, second):
        block.second[1].weight.zero_()
    kernel = stem[0].weight.zero_()
    for colour in range(3):
        for row in BLOCK:
            for column in BLOCK:
                kernel[colour, colour, row, column] = 1 / 4
    stem[1].bias[COLOUR] = LIFT
    for number, (down, across) in enumerate(STEPS):
        for part, (begin, sign) in enumerate([(0, 1), (0, -1), (1, 1), (1, -1)]):
            out = 3 + 4 * number + part
            here = (MIDDLE - begin * down, MIDDLE - begin * across)
            kernel[out, :, *here] -= sign / 3
            kernel[out, :, here[0] + down, here[1] + across] += sign / 3
    for layer, stage in ((wider, 2), (widest, 3)):
        kernel = layer[0].weight.zero_()
        for channel in range(7):
            inputs = [channel] if channel < 3 or stage == 3 else range(4 * channel - 9, 4 * channel - 5)
            for one in inputs:
                for row in BLOCK:
                    for column in BLOCK:
                        kernel[channel, one, row, column] = 1 / 4
    widest[0].weight[BUSY, EDGES.start : EDGES.start + 2] = 1 / 4
    trunk.head.weight.zero_()
    trunk.head.bias.zero_()


def _settle(visual, pictures) -> None:
    """Batch norms get the statistics of these pictures, and gains and offsets that undo them: nothing is
    computed otherwise, but in training, where each batch is normalised by itself, hardly anything is."""
    import torch
    from torch import nn

    from clipscan.embed.network import to_input

    batch = to_input(torch.from_numpy(pictures), tuple(CLIP_MEAN.tolist()), tuple(CLIP_STD.tolist()))

    def settle(norm, inputs):
        seen = inputs[0].transpose(0, 1).flatten(1)  # [channels, values]
        norm.running_mean, norm.running_var = seen.mean(1), seen.var(1)
        norm.bias += norm.weight * norm.running_mean
        norm.weight *= (norm.running_var + norm.eps).sqrt()

    norms = [part for part in visual.modules() if isinstance(part, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    with torch.no_grad():
        visual(batch)
    for hook in hooks:
        hook.remove()


def a_watchful_head(path: Path) -> Path:
    """A random small ViT, but for one head of its last block: it looks at the brightest of the 16 patches and
    says one thing where that is grey on average, as in noise, and the contrary where it is white."""
    import torch

    from clipscan.embed.model import create_network

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network = create_network(VIT).eval()
    visual, attention = network.visual, network.visual.transformer.resblocks[-1].attn
    width, heads = attention.embed_dim, attention.num_heads
    first = WATCHFUL * width // heads  # the head's rows of queries, keys and values begin here
    with torch.no_grad():
        visual.conv1.weight[0] = 4 / visual.conv1.weight[0].numel()  # channel 0: how bright a patch is
        asked, key, value = (
            part[first : first + width // heads] for part in attention.in_proj_weight.chunk(3)
        )
        asked_for, _, said = (
            part[first : first + width // heads] for part in attention.in_proj_bias.chunk(3)
        )
        for weights in (asked, key, value, asked_for, said):
            weights.zero_()
        asked_for[0], key[0, 0] = 4 * math.sqrt(width // heads), 1  # bright patches are looked at
        value[0, 0], said[0] = -2, 5
        attention.out_proj.weight[:, first] *= 10
    return save(network, path, VIT)
