"""One process per thread count: its environment, its cores, its figures. Imports nothing that starts threads."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def environment(threads: int) -> dict[str, str]:
    """Environment in which every library uses `threads` threads, and none of them spins while another is timed."""
    env = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RNNCORE_NUM_THREADS", "NPROC"):
        env[name] = str(threads)  # NPROC: the size of XLA's thread pool
    env.update(OMP_WAIT_POLICY="passive", JAX_PLATFORMS="cpu", MKL_DYNAMIC="FALSE", OMP_DYNAMIC="FALSE")
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return env


def _busy_seconds() -> dict[int, float]:
    """CPU seconds that each core has worked since the system started; empty where the system does not tell."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    busy = {}
    for line in lines:
        name, *counts = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, counts[:8])
            busy[int(name[3:])] = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy


def pin(threads: int) -> None:
    """Keep this process on the `threads` cores that have least to do."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0), reverse=True)  # the first core serves most interrupts
    if threads > len(cores):
        print(f"note: {threads} threads on {len(cores)} cores")
    before = _busy_seconds()
    time.sleep(0.3)
    after = _busy_seconds()
    cores.sort(key=lambda core: after.get(core, 0.0) - before.get(core, 0.0))
    os.sched_setaffinity(0, cores[:threads])


class Others:
    """How busy other processes kept our cores since this was made, where the system tells."""

    def __init__(self) -> None:
        self.start, self.seconds = time.perf_counter(), self._seconds()

    @staticmethod
    def _seconds() -> float:
        busy = _busy_seconds()
        if not busy or not hasattr(os, "sched_getaffinity"):
            return 0.0
        return sum(busy.get(core, 0.0) for core in os.sched_getaffinity(0)) - sum(os.times()[:4])

    def cores(self) -> float:
        """Share of our cores that they used, as a number of cores."""
        return max(0.0, self._seconds() - self.seconds) / (time.perf_counter() - self.start)


def run_worker(argv: list[str], threads: str, dtype: str) -> tuple[int, dict[str, Any]]:
    """Run `python -m bench argv` as a worker for these threads and this dtype: (exit status, figures)."""
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "figures.json")
        command = [sys.executable, "-m", "bench", *argv, "--threads", threads, "--dtype", dtype, "--worker", result]
        most = max(int(count) for count in threads.split(","))
        status = subprocess.run(command, env=environment(most), cwd=None, check=False).returncode
        if status:
            return status, {}
        with open(result, encoding="utf-8") as file:
            return 0, json.load(file)


def run_python(code: str, threads: int = 1) -> str:
    """Standard output of a fresh interpreter that runs `code` beside the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(threads), cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout


def machine() -> dict[str, str]:
    """What a reader needs to know to compare two reports."""
    facts = {"python": platform.python_version(), "system": platform.platform(), "processor": platform.processor()}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts["processor"] = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    for package in ("rnncore", "numpy", "scipy", "torch", "jax", "onnxruntime", "openvino", "sklearn-crfsuite"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts
