"""Loads the shared library of compiled kernels, and says what is in it."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch

__version__ = "0.1.0"

_FOLDER = Path(__file__).parent


def _load(library: Path) -> str | None:
    """Register the library's ops with torch; where that fails, the reason."""
    if not library.exists():
        return f"{library} is missing: run `pip install -e .` in the source tree"
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        return f"the library does not load into torch {torch.__version__}: {error}"
    return None


def _read_build_info(path: Path) -> dict[str, Any]:
    """What csrc/build_backend.py wrote down: compiler, nvcc, cuda_archs, and what is missing."""
    info: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return info


_build = _read_build_info(_FOLDER / "_build_info.json")
_missing: dict[str, str] = _build.get("missing", {})
if "cpu" not in _missing and (_reason := _load(_FOLDER / "_C.so")):
    _missing = {"cpu": _reason, "cuda": _reason}

CPU_KERNELS = "cpu" not in _missing
CUDA_KERNELS = "cuda" not in _missing

if not CPU_KERNELS:
    if os.environ.get("POWERSPHERICAL_REQUIRE_KERNELS") == "1":
        raise ImportError(f"powerspherical_ext has no compiled kernels: {_missing['cpu']}")
    warnings.warn(
        f"powerspherical_ext has no compiled kernels: {_missing['cpu']}. The slower plain-torch "
        "implementation is used. With a C++ compiler on PATH, `pip install --force-reinstall "
        "--no-cache-dir --no-deps` of this package builds them.",
        RuntimeWarning,
        stacklevel=3,
    )


def why_no_kernels(device_type: str) -> str | None:
    """Why tensors of this device type take the plain-torch path; None where they have kernels.

    >>> why_no_kernels("mps")
    'kernels exist for cpu and cuda only'
    """
    if device_type not in ("cpu", "cuda"):
        return "kernels exist for cpu and cuda only"
    return _missing.get(device_type)


def show_config() -> None:
    """Print the versions, the kernels of this installation and the compilers that made them.

    >>> show_config()
    powerspherical_ext ...
    torch ...
    cpu kernels: ...
    cuda kernels: ...
    """
    archs = " ".join(f"sm_{arch}" for arch in _build.get("cuda_archs", []))
    cpu = _missing.get("cpu") or _build["compiler"]
    cuda = _missing.get("cuda") or f"{archs}, PTX for newer ones; {_build['nvcc']}"
    print(f"powerspherical_ext {__version__} in {_FOLDER}")
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}")
    print(f"cpu kernels: {'yes' if CPU_KERNELS else 'none'} ({cpu})")
    print(f"cuda kernels: {'yes' if CUDA_KERNELS else 'none'} ({cuda})")
