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


_REBUILD = "run `pip install -e .` in the source tree, or install the package again"


def _load(library: Path, build: dict[str, Any]) -> str | None:
    """Register the library's ops with torch; where that fails, the reason."""
    if not library.exists():
        return f"{library} is missing: {_REBUILD}"
    size = build.get("library", {}).get("size")
    if size not in (None, library.stat().st_size):  # a damaged library may crash as it is loaded
        return f"{library} is not the file that was built, which had {size} bytes: {_REBUILD}"
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        return f"the library does not load into torch {torch.__version__}: {error}"
    return None


def _read_build_info(path: Path) -> dict[str, Any]:
    """What csrc/build_backend.py wrote down: compiler, nvcc, cuda_archs, and what is missing."""
    try:
        info = json.loads(path.read_text())
        if isinstance(info, dict):
            return info
        error: Exception = TypeError("it is not an object of JSON")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as unreadable:
        error = unreadable
    warnings.warn(f"{path} is unreadable ({error}): {_REBUILD}", RuntimeWarning, stacklevel=4)
    return {}


_build = _read_build_info(_FOLDER / "_build_info.json")
_missing: dict[str, str] = _build.get("missing", {})
if "cpu" not in _missing and (_reason := _load(_FOLDER / "_C.so", _build)):
    _missing = {"cpu": _reason, "cuda": _reason}
elif not _build and not torch._C._dispatch_has_kernel_for_dispatch_key(
    "powerspherical_ext::log_prob", "CUDA"
):
    _missing = {"cuda": "the library was built without them"}

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
    archs = " ".join(
        f"sm_{arch}" for arch in _build.get("cuda_archs", []) if not arch.endswith("-virtual")
    )
    unknown = "built by an unknown compiler"
    cpu = _missing.get("cpu") or _build.get("compiler", unknown)
    cuda = _missing.get("cuda") or f"{archs}, PTX for others; {_build.get('nvcc', unknown)}"
    print(f"powerspherical_ext {__version__} in {_FOLDER}")
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}")
    print(f"cpu kernels: {'yes' if CPU_KERNELS else 'none'} ({cpu})")
    print(f"cuda kernels: {'yes' if CUDA_KERNELS else 'none'} ({cuda})")
