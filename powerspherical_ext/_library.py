"""Loads the shared library of compiled kernels, and says what is in it."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import torch

__version__ = "0.1.0"

_FOLDER = Path(__file__).parent


def _load() -> str | None:
    """The reason why there are no kernels, or None."""
    library = _FOLDER / "_C.so"
    if not library.exists():
        return _build_info.get("reason") or f"{library} was never built: run `pip install -e .`"
    try:
        torch.ops.load_library(library)
    except OSError as error:
        return f"{library.name} does not load into torch {torch.__version__}: {error}"
    return None


_info_file = _FOLDER / "_build_info.json"
_build_info = json.loads(_info_file.read_text()) if _info_file.exists() else {}

REASON = _load()
CPU_KERNELS = REASON is None
CUDA_ARCHS: tuple[str, ...] = tuple(_build_info.get("cuda_archs", ())) if CPU_KERNELS else ()
CUDA_KERNELS = bool(CUDA_ARCHS)
