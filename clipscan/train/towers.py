"""Both towers of a CLIP in one forward pass: what is trained, and what several processes wrap."""

from __future__ import annotations

from torch import Tensor, nn

from clipscan.embed.network import autocast, encode_tokens, to_input


class Towers(nn.Module):
    """The network, from pixels and tokens to unit vectors. On a CPU `precision` is the image tower's."""

    def __init__(
        self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], device: str, precision: str
    ) -> None:
        super().__init__()
        self.network, self.mean, self.std = network, mean, std
        self.device, self.precision = device, precision

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 [b, S, S, 3], int64 [u, context] -> float32 [b, d], [u, d] of length 1; the logit scale."""
        with autocast(self.device, self.precision):
            image = self.network.encode_image(to_input(pixels, self.mean, self.std))  # type: ignore[operator]
        # On CPUs the text tower's many small products are faster in fp32, even where bf16 has instructions.
        with autocast(self.device, self.precision if self.device != "cpu" else "fp32"):
            text = encode_tokens(self.network, tokens)
        image, text = nn.functional.normalize(image.float()), nn.functional.normalize(text.float())
        return image, text, self.network.logit_scale.exp()  # type: ignore[operator]
