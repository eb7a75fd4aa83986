"""Seconds, memory, floating-point operations, launches and waits of a function, on a CPU or a GPU."""

import ctypes
import gc
import platform
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode


WARM = 3
Step = Callable[[], Any]


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def race(
    steps: dict[str, Step],
    rounds: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call by a clock, after some to warm up; a round is one of each, in random order."""
    for step in steps.values():
        for _ in range(WARM):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name in random.sample(list(steps), len(steps)):
            finish(device)
            started = clock()
            steps[name]()
            finish(device)
            seconds[name].append(clock() - started)
    return seconds


def peak_mebibytes(step: Step, device: torch.device, warm: int = WARM) -> float:
    """How far memory rises in a step above what is held between steps: a GPU's, or this process's (Linux)."""
    for _ in range(warm):
        step()
    gc.collect()
    if device.type == "cuda":
        finish(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def operations(step: Step) -> int:
    """Floating-point operations of convolutions and matrix products, a multiplication and an addition being two."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def waits(step: Step) -> int:
    """How often the host waits for the GPU in a step, as torch's debug mode sees it."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchroniz" in str(warning.message) for warning in found)


def launches(step: Step, device: torch.device) -> int:
    """Kernels and graphs that the host gives to the GPU in a step."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        step()
        finish(device)
    names = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")
    return sum(event.count for event in found.key_averages() if event.key in names)


def machine(device: torch.device) -> str:
    """What the numbers were measured on, and by which torch."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}"
