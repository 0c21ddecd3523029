"""python benchmarks/gpu_acceptance.py [FOLDER]: build, time, test and check the CUDA kernels on the
GPU of this machine, in less than 8 minutes, whatever fails or hangs.

FOLDER (default build/gpu-acceptance) gets <gpu>.json, which is written after every row and every
part, and the whole log of each part. benchmarks/report.py makes tables of the file in
benchmarks/results. The machine needs torch, pytest, nvcc and the packages that the tests import;
git, power-spherical, compute-sanitizer and ncu are used where they are.

Exit status 1 if a part fails or a target is missed; the file says which. Not yet run on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clock
import gpu_targets
import torch
from gpu_results import Budget, Results, run_bounded

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
Outcome = dict[str, Any]

SECONDS = 450  # for all parts together
LEAST = 10  # a part that has fewer seconds left does not begin
IDLE = 60  # seconds that one step of gpu_timing.py may take: it compiles for 40 at most
# Teams of a part of a warp, of a warp and of a block; rows in registers, longer ones, split ones.
SMALLEST = ["2", "7", "3", "3", "65", "2", "1031", "2", "4104", "2", "8200"]
LARGE = ["1", "65536", "2048"]
NCU_SECTIONS = ["SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "LaunchStats"]
NCU_SECTIONS += ["SchedulerStats", "WarpStateStats", "InstructionStats"]
NCU_LAUNCHES = 18  # of eight ops, the loss in two ways, in float32 and in bfloat16


@dataclass
class Session:
    folder: Path
    results: Results
    rehearsal: bool

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def build(session: Session, seconds: float) -> Outcome:
    """For the architecture of this card alone."""
    if session.rehearsal:
        return {"skipped": "a rehearsal"}
    arch = "{}{}".format(*torch.cuda.get_device_capability())
    code = "import sys; sys.path.insert(0, 'csrc'); import build_backend as b; b.build_library()"
    environ = {"POWERSPHERICAL_CUDA": "1", "POWERSPHERICAL_CUDA_ARCHS": arch}
    status = run_bounded([sys.executable, "-c", code], session.log("build"), seconds, environ)
    if status:
        return {"error": f"{status}"}
    info = json.loads((ROOT / "powerspherical_ext" / "_build_info.json").read_text())
    return {"arch": arch, "info": info}


def time_everything(session: Session, seconds: float) -> Outcome:
    """By gpu_timing.py, which is started again after a step that ended or blocked it."""
    results, budget, statuses = session.results, Budget(seconds), []
    results.save(rows=[], done=[], errors={}, running=None)
    command = [sys.executable, str(HERE / "gpu_timing.py"), str(results.file)]
    command += ["--rehearsal"] * session.rehearsal
    while budget.left() > 0:
        results.save()  # for its time, which says that there is progress
        before = _steps(results)
        status = run_bounded(
            command, session.log("timing"), budget.left(), alive=results.file, idle=IDLE
        )
        statuses.append(status)
        results.data = Results(results.file).data
        if results.data["running"]:
            results.data["errors"][results.data["running"]] = f"the process ended: {status}"
            results.save(running=None)
        if status == 0 or _steps(results) == before:
            break
    errors = len(results.data["errors"])
    good = not errors and statuses[-1:] == [0]
    return {"statuses": statuses, **({} if good else {"error": f"{errors} steps failed"})}


def _steps(results: Results) -> int:
    return len(results.data["done"]) + len(results.data["errors"])


def test(session: Session, seconds: float) -> Outcome:
    """{"passed": ..., "failed": ..., ...} of the tests in tests/cuda that need a GPU."""
    files = map(str, sorted((ROOT / "tests" / "cuda").glob("test_*_on_gpu.py")))
    pytest = [sys.executable, "-m", "pytest", *files, "-v", "--tb=short", "-rf"]
    pytest += ["--maxfail=20", "--durations=15", "-W", "default", "-o", "faulthandler_timeout=60"]
    for plugin in ("cacheprovider", "randomly", "xdist"):
        pytest += ["-p", f"no:{plugin}"]
    log = session.log("tests")
    status = run_bounded(pytest, log, seconds)
    text = log.read_text(errors="replace")
    outcome: Outcome = {}
    if isinstance(status, str):
        done = re.findall(r" (PASSED|FAILED|SKIPPED|ERROR)\b", text)
        outcome = {word.lower(): done.count(word) for word in sorted(set(done))}
        return {**outcome, "error": status}
    last = (text.strip().splitlines() or [""])[-1]
    outcome = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    # 5: no test was collected. A run in which everything was skipped has tested nothing.
    if status or not outcome.get("passed"):
        outcome.setdefault("error", f"pytest ended with {status}")
    return outcome


def find_tool(name: str) -> str | None:
    places = [shutil.which(name), f"/usr/local/cuda/bin/{name}"]
    places += map(str, sorted(Path("/opt/nvidia/nsight-compute").glob(f"*/{name}"), reverse=True))
    return next((place for place in places if place and Path(place).exists()), None)


def launches(tool: str, options: list[str], arguments: list[str]) -> Callable[..., Outcome]:
    """A part that runs gpu_launches.py under a tool."""

    def run(session: Session, seconds: float, name: str) -> Outcome:
        found = find_tool(tool)
        if found is None:
            return {"skipped": f"no {tool} here"}
        script = [sys.executable, str(HERE / "gpu_launches.py"), *arguments]
        # Each tensor has its own allocation, whose end is the end of what may be read.
        environ = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        status = run_bounded([found, *options, *script], session.log(name), seconds, environ)
        return {"error": f"{status}"} if status else {"passed": True}

    return run


def sanitize(tool: str) -> Callable[[Session, float], Outcome]:
    options = ["--tool", tool, "--error-exitcode", "1"]
    run = launches("compute-sanitizer", options, SMALLEST)
    return lambda session, seconds: run(session, seconds, tool)


def profile(session: Session, seconds: float) -> Outcome:
    """One launch of each kernel. The clocks of the card stay as they are."""
    options = ["--clock-control", "none", "--kernel-name-base", "demangled"]
    options += ["--kernel-name", "regex:spherical", "--launch-count", str(NCU_LAUNCHES)]
    options += [word for section in NCU_SECTIONS for word in ("--section", section)]
    return launches("ncu", options, LARGE)(session, seconds, "ncu")


# In their order, with the most seconds that each may take.
PARTS: dict[str, tuple[float, Callable[[Session, float], Outcome]]] = {
    "build": (120, build),
    "timing": (190, time_everything),
    "tests": (150, test),
    "memcheck": (60, sanitize("memcheck")),
    "racecheck": (60, sanitize("racecheck")),
    "ncu": (60, profile),
}


def run_parts(session: Session, budget: Budget) -> None:
    """What became of each part is in the file before the next begins."""
    results = session.results
    parts: dict[str, Outcome] = {}
    for name, (most, part) in PARTS.items():
        begin, seconds = budget.used(), min(most, budget.left())
        if parts.get("build", {}).get("error"):
            outcome: Outcome = {"skipped": "there are no kernels"}
        elif seconds < LEAST:
            outcome = {"skipped": "no time was left"}
        else:
            print(f"{name}: at most {seconds:.0f} s", flush=True)
            try:
                outcome = part(session, seconds)
            except Exception as error:
                outcome = {"error": f"{type(error).__name__}: {error}"}
        outcome["seconds"] = round(budget.used() - begin, 1)
        parts[name] = outcome
        rows = results.data.get("rows", [])
        kinds = ("copy", "write", "read")
        roofline = {kind: results.data.get(f"{kind}_bandwidth") for kind in kinds}
        results.save(
            parts=parts,
            tests=parts.get("tests"),
            targets=gpu_targets.targets(roofline, rows),
            seconds=round(budget.used(), 1),
        )
        print(
            f"{name}: {json.dumps({k: v for k, v in outcome.items() if k != 'info'})}", flush=True
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "gpu-acceptance")
    parser.add_argument("--commit", help="what is measured, where git does not tell")
    parser.add_argument(
        "--rehearsal", action="store_true", help="tiny sizes, and no build: to try the script"
    )
    options = parser.parse_args(arguments)
    budget = Budget(SECONDS)
    if not torch.cuda.is_available():
        sys.exit("gpu_acceptance: no GPU here; nothing was built, tested or timed")
    head = clock.description("cuda")
    head["commit"] = options.commit or head["commit"]
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.log"), *folder.glob("*.json")]:
        old.unlink()  # so that no part is taken for done that was done by an earlier run
    name = re.sub(r"[^a-z0-9]+", "-", head["machine"].lower()).strip("-")
    results = Results(folder / f"{name}.json")
    results.save(**head, cuda=torch.version.cuda, rehearsal=options.rehearsal)
    run_parts(Session(folder, results, options.rehearsal), budget)
    data = results.data
    for row in data["targets"]:
        print(gpu_targets.line(row))
    for step, error in data.get("errors", {}).items():
        print(f"not timed: {step}: {error.splitlines()[0]}")
    print(f"{data['seconds']} s; written to {os.path.relpath(results.file)}")
    failed = [name for name, part in data["parts"].items() if "error" in part or part.get("failed")]
    print(f"failed: {', '.join(failed) or 'nothing'}")
    return 1 if failed or any(row["met"] is False for row in data["targets"]) else 0


if __name__ == "__main__":
    sys.exit(main())
