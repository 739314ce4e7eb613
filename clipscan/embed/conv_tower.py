"""A convolution tower for pictures of 32 to 64 pixels that learns in minutes on a CPU.

    stem 3x3 /2 -> [ 3x3 /2, residual block ] per further width -> average and maximum side by side -> linear

The maximum matters: a small patch fills one cell of the last map, and an average hides it.
open_clip reaches these through timm's registry (`timm_model_name` in configs/*.json).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """[b, inputs, h, w] -> [b, outputs, h/stride, w/stride]: 3x3 convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """[b, c, h, w] -> the same shape: x + two convolutions of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width)
        self.second = convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class ConvTower(nn.Module):
    """[b, 3, S, S] -> [b, num_classes], raw; S a multiple of 2^len(widths)."""

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(3, widths[0], 2), nn.ReLU()]
        for inputs, outputs in pairwise(widths):
            layers += [convolution(inputs, outputs, 2), nn.ReLU(), Residual(outputs)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], num_classes)

    def forward(self, pictures: Tensor) -> Tensor:
        cells = self.body(pictures).flatten(2)  # [b, c, h*w]
        return self.head(torch.cat([cells.mean(2), cells.amax(2)], dim=1))


@register_model
def clipscan_conv3(num_classes: int = 128, **_: Any) -> ConvTower:
    """For 32 px: 0.5 M parameters. What else timm's factory passes (pretrained, pool) means nothing here."""
    return ConvTower((32, 64, 128), num_classes)


@register_model
def clipscan_conv4(num_classes: int = 128, **_: Any) -> ConvTower:
    """For 64 px: one stage more, 2 M parameters."""
    return ConvTower((32, 64, 128, 256), num_classes)
