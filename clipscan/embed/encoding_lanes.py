"""Batches through an encoder: each is started before the vectors of the one before are waited for.

On a CPU a batch is computed when it is started. On a CUDA device nothing waits: pixels go through pinned
memory and a stream of their own, so batch i+1 is decoded, tokenised and copied while the encoder is at
batch i, and vectors come back behind it. That path is written and tested against stand-ins for CUDA's
streams; it has not been run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from clipscan.embed.model import Encoder

VectorPair = tuple[NDArray[np.float32], NDArray[np.float32]]  # of pictures and of captions, [b, width] each
Pictures = Sequence[NDArray[np.uint8]]  # b of [S, S, 3]


class Lane(Protocol):
    """A way through an encoder. `ahead`: batches worth starting before the first is waited for."""

    ahead: int

    def start(self, pictures: Pictures, captions: Sequence[str]) -> Callable[[], VectorPair]: ...


def open_lane(encoder: Encoder, batch_size: int) -> Lane:
    """For batches of at most batch_size. A compiled model gets full batches, filled up with black pictures:
    another number of rows would be compiled anew, and each shard's last batch, or a bad sample, has one."""
    rows = batch_size if encoder.compiled else 0
    return CudaLane(encoder, rows) if encoder.device.startswith("cuda") else DirectLane(encoder, rows)


class DirectLane:
    """Computes where and when it is asked."""

    ahead = 0

    def __init__(self, encoder: Encoder, rows: int = 0) -> None:
        self.encoder, self.rows = encoder, rows

    def start(self, pictures: Pictures, captions: Sequence[str]) -> Callable[[], VectorPair]:
        count = len(pictures)
        pixels = np.empty((max(count, self.rows), *pictures[0].shape), np.uint8)
        _fill(pixels, pictures)
        image, text = self.encoder.encode_images(pixels)[:count], self.encoder.encode_texts(captions)
        return lambda: (image, text)


class CudaLane:
    """Queues copies and kernels, and returns. Pinned and device memory is torch's own cache of both: a block
    that a copy still reads is not handed out again."""

    ahead = 2  # one on its way to the device, one in the encoder

    def __init__(self, encoder: Encoder, rows: int = 0) -> None:
        import torch

        self.encoder, self.rows = encoder, rows
        self.copies = torch.cuda.Stream(encoder.device)

    def start(self, pictures: Pictures, captions: Sequence[str]) -> Callable[[], VectorPair]:
        import torch

        encoder, count = self.encoder, len(pictures)
        pixels = _pinned((max(count, self.rows), *pictures[0].shape), torch.uint8)
        _fill(pixels.numpy(), pictures)
        compute = torch.cuda.current_stream(encoder.device)
        with encoder.computing():
            image = _to_host(encoder.image_vectors(self._on_device(pixels, compute)))
            tokens, length, row = encoder.tokens(captions)  # while the device is at the pictures
            tokens = _pinned(tuple(tokens.shape), tokens.dtype).copy_(tokens)
            text = _to_host(encoder.text_vectors(tokens.to(encoder.device, non_blocking=True), length))
        done = torch.cuda.Event(blocking=True)  # sleeps: the decoders need the core that would spin
        done.record(compute)

        def finish() -> VectorPair:
            done.synchronize()
            return image.numpy()[:count], text.numpy()[row]

        return finish

    def _on_device(self, pixels: Tensor, compute: torch.cuda.Stream) -> Tensor:
        """The copy of pinned pixels; `compute` waits for it, and the memory for `compute`."""
        import torch

        with torch.cuda.stream(self.copies):
            copied = pixels.to(self.encoder.device, non_blocking=True)
        compute.wait_stream(self.copies)
        copied.record_stream(compute)
        return copied


def resident(encoder: Encoder, batch_size: int) -> Callable[[int], None]:
    """For measuring: random pictures that lie on the device. The function encodes them so many times, and
    returns when the device has finished."""
    import torch

    shape = (batch_size, encoder.image_size, encoder.image_size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(encoder.device)

    def run(times: int) -> None:
        with encoder.computing():
            for _ in range(times):
                vectors = encoder.image_vectors(pixels)
            vectors.cpu()  # waits for all before it: one stream

    return run


def _fill(rows: NDArray[np.uint8], pictures: Pictures) -> None:
    """Pictures into the first rows, black into the rest."""
    np.stack(pictures, out=rows[: len(pictures)])
    rows[len(pictures) :] = 0


def _pinned(shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
    import torch

    return torch.empty(shape, dtype=kind, pin_memory=True)


def _to_host(vectors: Tensor) -> Tensor:
    """Queues the copy into pinned memory."""
    return _pinned(tuple(vectors.shape), vectors.dtype).copy_(vectors, non_blocking=True)
