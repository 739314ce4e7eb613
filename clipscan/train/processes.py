"""The processes of one training: those that torchrun started, one a GPU, or this one alone.

Every process works on its own part of every batch and has the features of all: gathered with their
gradients, they make the loss that one process would compute, and DistributedDataParallel averages to the
gradient of it. Only the first process writes and logs.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clipscan.train.torchrun import launched

PATIENCE = timedelta(days=2)  # the others wait while the first process decodes a dataset

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `count`, and computes on `device`."""

    device: str
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def first_does(self, work: Callable[[], T]) -> T:
        """The work of the first process, then that of the others, which finds it done."""
        if not self.first:
            self.wait()
        done = work()
        if self.first:
            self.wait()
        return done

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def together(self, items: Iterable[T]) -> Iterator[T]:
        """The items for as long as every process has one: one that went on alone would wait for ever."""
        if self.count == 1:
            yield from items
            return
        own = iter(items)
        while True:
            item = next(own, None)
            flag = torch.tensor(int(item is not None), device=self.device)
            dist.all_reduce(flag, dist.ReduceOp.MIN)
            if item is None or not flag:
                return
            yield item

    def gather(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of all processes of two [b, d], in the same order, with gradients."""
        if self.count == 1:
            return first, second
        from open_clip.loss import gather_features

        return gather_features(  # type: ignore[no-any-return]
            first, second, gather_with_grad=True, rank=self.rank, world_size=self.count
        )

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module, with its gradients averaged over all processes."""
        if self.count == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        gpus = [self.device] if self.device.startswith("cuda") else None
        return DistributedDataParallel(module, device_ids=gpus)


def join(device: str) -> Processes:
    """This process among those of torchrun, each with its own GPU where `device` is "cuda"; or alone.

    The group is kept until the process ends: its address book does not bear being opened twice.
    """
    rank, count = launched()
    if count == 1:
        return Processes(device)
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
    return Processes(device, rank, count)
