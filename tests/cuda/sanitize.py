"""The kernels under compute-sanitizer: accesses out of bounds, and races on shared memory.

`make cuda-sanitize` calls it; needs a GPU, and compute-sanitizer of the CUDA toolkit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
# Teams of a part of a warp, of a warp and of a block; rows in registers, longer ones, split ones.
TESTS = "2-8200 or 4-4104 or 4-1031 or 26-65 or 200-7 or other_families"
TESTS += " or broadcast or scalar_function"


def main() -> None:
    places = [shutil.which("compute-sanitizer"), "/usr/local/cuda/bin/compute-sanitizer"]
    sanitizer = next((place for place in places if place and Path(place).exists()), None)
    if not torch.cuda.is_available() or sanitizer is None:
        missing = "compute-sanitizer" if torch.cuda.is_available() else "GPU"
        print(f"cuda-sanitize skipped: no {missing} here")
        return
    # Each tensor its own allocation, so that the end of a tensor is the end of what may be read.
    environ = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    tests = [sys.executable, "-m", "pytest", "tests/cuda/test_kernels_on_gpu.py", "-q", "-k", TESTS]
    for tool in ("memcheck", "racecheck"):
        print(f"compute-sanitizer --tool {tool}", flush=True)
        check = [sanitizer, "--tool", tool, "--error-exitcode", "1"]
        status = subprocess.run([*check, *tests], cwd=ROOT, env=environ, check=False).returncode
        if status:
            sys.exit(f"cuda-sanitize: {tool} failed")


if __name__ == "__main__":
    main()
