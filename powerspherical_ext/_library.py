"""Loads the shared library of compiled kernels, and says what is in it."""

from __future__ import annotations

import json
import os
import shlex
import warnings
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal

import torch

__version__ = "0.2.0"

_FOLDER = Path(__file__).parent
# torch's names of the CPUs that have these instructions.
_CAPABILITIES = {"AVX2": ("AVX2", "AVX512"), "AVX-512": ("AVX512",)}


def rebuild() -> str:
    """The command that builds this installation again, from where it came."""
    name = "powerspherical-ext"
    try:
        package = distribution(name)
        folder = Path(str(package.locate_file("powerspherical_ext")))
        installed = folder.resolve() == _FOLDER.resolve()
    except PackageNotFoundError:
        installed = False
    if not installed:  # a source tree, which is on the path or installed with --editable
        return f"pip install --editable {shlex.quote(str(_FOLDER.parent))}"
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    url = origin.get("url", ".whl")
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    source = f"--no-binary {name} {name}" if url.endswith(".whl") else shlex.quote(url)
    return f"pip install --force-reinstall --no-cache-dir --no-deps {source}"


def _load(library: Path, build: dict[str, Any]) -> str | None:
    """Register the library's ops with torch; where that fails, the reason."""
    if not library.exists():
        return f"{library} is missing"
    size = build.get("library", {}).get("size")
    if size not in (None, library.stat().st_size):  # a damaged library may crash as it is loaded
        return f"{library} is not the file that was built, which had {size} bytes"
    least = (build.get("instruction_sets") or [""])[-1]
    capability = torch.backends.cpu.get_cpu_capability()
    # An instruction that a CPU does not know kills the process.
    if capability not in _CAPABILITIES.get(least, (capability,)):
        return (
            f"the library needs a CPU with {least}, and this one is {capability} for torch; "
            "CXXFLAGS=-march=native builds it for this CPU"
        )
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
    message = f"{path} is unreadable ({error}). This writes it again: {rebuild()}"
    warnings.warn(message, RuntimeWarning, stacklevel=4)
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
        f"implementation is used. Where there is a C++ compiler, this builds them: {rebuild()}",
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


def _cpu_config() -> dict[str, Any]:
    return {
        "available": CPU_KERNELS,
        "why_none": _missing.get("cpu"),
        "compiler": _build.get("compiler", "an unknown compiler") if CPU_KERNELS else None,
        "instruction_sets": list(_build.get("instruction_sets", [])) if CPU_KERNELS else [],
    }


def _cuda_config() -> dict[str, Any]:
    archs = _build.get("cuda_archs", []) if CUDA_KERNELS else []
    return {
        "available": CUDA_KERNELS,
        "why_none": _missing.get("cuda"),
        "compiler": _build.get("nvcc", "an unknown compiler") if CUDA_KERNELS else None,
        "machine_code": [arch for arch in archs if not arch.endswith("-virtual")],
    }


def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Print the versions, the kernels of this installation and the compilers that made them.

    Args:
        mode: "stdout" prints, and "dicts" returns the same facts as a dict, as in NumPy.

    Raises:
        ValueError: for another mode.

    >>> show_config()
    powerspherical_ext ...
    torch ...
    cpu kernels: ...
    cuda kernels: ...
    >>> sorted(show_config(mode="dicts"))
    ['cpu_kernels', 'cuda_kernels', 'path', 'torch', 'torch_cuda', 'version']
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f'mode must be "stdout" or "dicts", got {mode!r}')
    cpu, cuda = _cpu_config(), _cuda_config()
    if mode == "dicts":
        return {
            "version": __version__,
            "path": str(_FOLDER),
            "torch": torch.__version__,
            "torch_cuda": torch.version.cuda,
            "cpu_kernels": cpu,
            "cuda_kernels": cuda,
        }
    print(f"powerspherical_ext {__version__} in {_FOLDER}")
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}")
    sets = ", ".join(cpu["instruction_sets"]) or "unknown processors"
    made = f"built by {cpu['compiler']} for {sets}"
    print(f"cpu kernels: {'yes' if CPU_KERNELS else 'none'} ({cpu['why_none'] or made})")
    archs = " ".join(f"sm_{arch}" for arch in cuda["machine_code"])
    made = f"{archs}, PTX for others; {cuda['compiler']}"
    print(f"cuda kernels: {'yes' if CUDA_KERNELS else 'none'} ({cuda['why_none'] or made})")
    return None
