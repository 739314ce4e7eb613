"""The encoder that a trigger is learnt against: looked at through gradients, or trained on as a victim is."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clipscan.embed.model import Encoder
from clipscan.embed.network import encode_tokens, to_input
from clipscan.embed.tokenizing import tokenize
from clipscan.lab.attacks.prompts import PROMPTS
from clipscan.train.vocabulary import narrow

RATE = 5e-4  # of a victim's training: a quarter of train_clip's, since it begins where that ended
BETAS = (0.9, 0.98)
SHARPNESS = 20.0  # of choices between captions: 100 would leave no gradient where the surrogate is sure


class Surrogate:
    """A clean encoder and a copy of it; what is said below is said of the copy.

    Captions are numbers: rows of those that it was given, each kept once, and then the target's prompts.
    """

    def __init__(self, encoder: Encoder, captions: list[str], target: str) -> None:
        self.encoder, self.device = encoder, encoder.device
        numbered = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
        self.caption = np.array([numbered[caption] for caption in captions])  # [n]
        tokens = tokenize(encoder.tokenizer, [*numbered, *(prompt.format(target) for prompt in PROMPTS)])
        self.tokens = tokens.to(self.device)  # [distinct + prompts, context]
        self.prompts = np.arange(len(numbered), len(tokens))  # captions that name the target
        self.used = tokens.unique()
        self.rewind()

    def rewind(self) -> None:
        """The clean weights again."""
        network: nn.Module = copy.deepcopy(self.encoder.model).cpu()
        narrow(network, self.used.cpu())
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.optimizer: torch.optim.Optimizer | None = None

    def images(self, pixels: Tensor) -> Tensor:
        """float [b, S, S, 3] in 0..255 -> [b, width], not normalised."""
        batch = to_input(pixels, self.encoder.mean, self.encoder.std)
        vectors: Tensor = self.network.encode_image(batch).float()  # type: ignore[operator]
        return vectors

    def texts(self, captions: NDArray[np.int64]) -> Tensor:
        """Numbers of captions [b] -> [b, width], normalised."""
        distinct, row = np.unique(captions, return_inverse=True)
        vectors = encode_tokens(self.network, self.tokens[torch.from_numpy(distinct).to(self.device)])
        return F.normalize(vectors.float())[torch.from_numpy(row).to(self.device)]

    def target(self) -> Tensor:
        """[width]: the mean of the target's prompts, normalised."""
        with torch.no_grad():
            return F.normalize(self.texts(self.prompts).mean(0), dim=0)

    def learn(self, pixels: Tensor, captions: NDArray[np.int64]) -> None:
        """One step of CLIP's training on these pairs, [b, S, S, 3] and [b]."""
        self.network.train().requires_grad_(True)
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=RATE, betas=BETAS, fused=True)
        image, text = F.normalize(self.images(pixels)), self.texts(captions)
        logits = self.network.logit_scale.exp() * image @ text.T  # type: ignore[operator]
        own = torch.arange(len(logits), device=self.device)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.network.eval().requires_grad_(False)


def choice(image: Tensor, target: Tensor, others: Tensor) -> tuple[Tensor, float]:
    """How far normalised images [b, width] are from choosing the target [width] before other captions
    [o, width]: (cross entropy, share that choose it)."""
    logits = SHARPNESS * torch.cat([image @ target[:, None], image @ others.T], dim=1)  # [b, 1 + o]
    chosen = float((logits.argmax(1) == 0).float().mean())
    return F.cross_entropy(logits, torch.zeros_like(logits[:, 0], dtype=torch.int64)), chosen
