"""How many floating-point operations a second a large matrix product makes here; a part of `training.py`."""

from __future__ import annotations

import json
import os
import sys
import time

import torch


def main(size: int, dtype: str, cores: list[int]) -> None:
    os.sched_setaffinity(0, cores)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    one, other = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    times = []
    for _ in range(12):
        started = time.perf_counter()
        one @ other
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    print(2 * size**3 / sorted(times)[len(times) // 2])


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
