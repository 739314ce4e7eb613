"""What kernels are compared with: the int8 and bf16 matrix products of torch and its copy on the same GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from clipscan.bench.kernel_work import GIGA, TERA, WARM, KernelPlan, KernelRun

SQUARE = 8192  # of torch's matrices: large enough to keep a GPU busy
COPIED = 1 << 30  # bytes


def torch_runs(plan: KernelPlan, say: Callable[[str], None]) -> Iterator[KernelRun]:
    """torch's matrix products and copy, which kernels are compared with; none without torch on the device."""
    try:
        import torch
    except ImportError:
        say("no torch here: the shares of its matrix products and copy are left empty")
        return
    if not torch.cuda.is_available() or plan.device >= torch.cuda.device_count():
        say("torch sees no such device: the shares of its matrix products and copy are left empty")
        return
    with torch.cuda.device(plan.device):
        # Random numbers: on zeros the units draw less power and run faster.
        numbers = torch.randint(-127, 128, (2, SQUARE, SQUARE), dtype=torch.int8, device="cuda")
        wide = torch.randn((2, SQUARE, SQUARE), device="cuda").bfloat16()
        here, there = torch.randint(0, 256, (2, COPIED), dtype=torch.uint8, device="cuda")
        calls: dict[str, tuple[Callable[[], Any], float, str]] = {
            "int8": (lambda: torch._int_mm(numbers[0], numbers[1].t()), 2 * SQUARE**3, TERA),
            "bf16": (lambda: torch.mm(wide[0], wide[1].t()), 2 * SQUARE**3, TERA),
            "copy": (lambda: there.copy_(here), 2 * COPIED, GIGA),
        }
        for name, (call, work, unit) in calls.items():
            try:
                took = [_milliseconds(torch, call) for _ in range(WARM + plan.rounds)][WARM:]
            except RuntimeError as error:
                say(f"torch's {name} is left out: {str(error).splitlines()[0]}")
                continue
            yield KernelRun(name, took, work, unit)


def _milliseconds(torch: Any, call: Callable[[], Any]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))
