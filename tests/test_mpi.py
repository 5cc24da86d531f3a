"""`mpiexec -n 2 rnncore train …`: the same bits for any number of processes, and nobody waits for one who is gone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rnncore as rc
from rnncore.cli import main
from rnncore.io.checkpoints import read_checkpoint

MPIEXEC = shutil.which("mpiexec")
LONGEST = 180  # seconds, on the slowest machine, until all processes are gone


def connected():
    """Whether mpiexec and mpi4py are here, and of one kind."""
    if MPIEXEC is None:
        return False
    code = "from mpi4py import MPI; assert MPI.COMM_WORLD.Get_size() == 2"
    return not subprocess.run([MPIEXEC, "-n", "2", sys.executable, "-c", code], capture_output=True).returncode


pytestmark = pytest.mark.skipif(not connected(), reason="needs mpiexec, and mpi4py with its library")

TASKS = {
    "tag": ["--set", "hidden_size=8", "--set", "max_epochs=2"],
    "lm": ["text.txt", "--set", "hidden_size=16", "--set", "max_epochs=2", "--set", "batch_size=8"],
    "classify": ["--set", "hidden_size=8", "--set", "max_epochs=1"],
}
TEXT = "to be or not to be, that is the question: " * 200
RNNCORE = [sys.executable, "-m", "rnncore"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def start(n, *arguments, program=RNNCORE):
    return subprocess.Popen(
        [MPIEXEC, "-n", str(n), *program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process):
    """Return a launcher's status, and what it and its processes had to say."""
    try:
        out, err = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def weights(path):
    return rc.load(path).network_.theta.tobytes()


MANY = """
import json, sys
from rnncore.cli import main
sys.exit(max(main(command) for command in json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights that each task learns in one process without MPI."""
    found, folder = {}, tmp_path_factory.mktemp("whole")
    for task, options in TASKS.items():
        (folder / "text.txt").write_text(TEXT)
        options = [str(folder / one) if one == "text.txt" else one for one in options]
        out = str(folder / task)
        assert main(["train", "--task", task, *options, "--shards", "4", "--out", out, "--quiet"]) == 0
        found[task] = weights(out)
    return found


@pytest.mark.parametrize(("n", "tasks"), [(1, ["lm"]), (2, [*TASKS]), (4, ["tag", "lm"])])
def test_any_number_of_processes_writes_the_same_weights(n, tasks, whole):
    commands = [["train", "--task", task, *TASKS[task], "--shards", "4", "--out", task] for task in tasks]
    Path("many.py").write_text(MANY)
    status, out, err = end(start(n, "many.py", json.dumps(commands), program=[sys.executable]))
    assert status == 0, err
    assert out.count("saved") == len(tasks) and err.count(" 0%|") == len(tasks)  # of each one line, the bar's first
    assert out.count(f"{n} processes") == len(tasks) * (n > 1)
    for task in tasks:
        assert weights(task) == whole[task]


LONG = ["train", "--task", "lm", "text.txt", "--set", "hidden_size=32", "--set", "batch_size=8", "--shards", "4"]


def long_one(n, epochs=400):
    command = [*LONG, "--set", f"max_epochs={epochs}", "--out", "long", "--checkpoint-every", "0.05", "--quiet"]
    return start(n, *command)


def until_kept(process):
    """Wait until there is a checkpoint."""
    began = time.perf_counter()
    while not os.path.exists("long.checkpoint"):
        assert process.poll() is None and time.perf_counter() - began < LONGEST
        time.sleep(0.02)


def children(pid):
    """Return the processes of Python below one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid:
            found += (
                [int(folder.name)] if sys.executable.encode() in name.split(b"\0")[0] else children(int(folder.name))
            )
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
def test_a_process_that_is_killed_ends_all_and_the_last_checkpoint_goes_on():
    rng = np.random.default_rng()
    for _ in range(int(os.environ.get("RNNCORE_KILLS", "1"))):
        Path("long.checkpoint").unlink(missing_ok=True)
        process = long_one(2)
        until_kept(process)
        time.sleep(rng.uniform(0, 0.5))
        os.kill(children(process.pid)[rng.integers(2)], signal.SIGKILL)
        status, out, err = end(process)
        assert status and ("signal 9" in out + err or "cannot go on" in err)
        header, arrays = read_checkpoint("long.checkpoint")
        assert header["settings"]["shards"] == 4 and np.isfinite(arrays["theta"]).all()
        assert not os.path.exists("long")


def test_ctrl_c_keeps_what_was_learned_and_another_number_goes_on():
    process = long_one(2, epochs=30)
    until_kept(process)
    process.send_signal(signal.SIGINT)
    status, _, err = end(process)
    assert status and "interrupted after" in err and "--resume long.checkpoint" in err
    assert os.path.exists("long") and read_checkpoint("long.checkpoint")
    assert main(["train", "--resume", "long.checkpoint", "--quiet"]) == 0
    assert main([*LONG, "--set", "max_epochs=30", "--out", "whole", "--quiet"]) == 0
    assert weights("long") == weights("whole")


FAILING = """
import rnncore as rc
from mpi4py import MPI

comm = MPI.COMM_WORLD

class Fail(rc.Callback):
    def on_batch_end(self, trainer, record):
        if record["batch"] == 3 and comm.Get_rank() == 1:
            raise RuntimeError("no more of this")

sentences, tags = rc.datasets.news_requests(60)
try:
    rc.SequenceTagger(hidden_size=8, max_epochs=50).fit(sentences[comm.Get_rank():], tags, comm=comm)
except Exception as problem:
    print(f"caught {problem}", flush=True)
rc.SequenceTagger(hidden_size=8, max_epochs=50, callbacks=[Fail()]).fit(sentences, tags, comm=comm)
"""


def test_an_exception_in_one_process_is_raised_in_all_or_ends_all():
    Path("failing.py").write_text(FAILING)
    status, out, err = end(start(2, "failing.py", program=[sys.executable]))
    assert out.count("caught") == 2 and "caught process 1 of 2 failed: expected as many" in out
    assert status and "no more of this" in err


def test_bad_input_is_one_line():
    Path("bad.txt").write_text("word\n")
    status, _, err = end(start(2, "train", "bad.txt"))
    assert status == 2 and len([line for line in err.splitlines() if line.startswith("rnncore train:")]) == 1


ALONE = """
import os, sys
from rnncore.cli import main
n = os.environ["PMI_RANK"]
sys.exit(main(["train", "--set", "hidden_size=4", "--set", "max_epochs=1", "--out", f"alone{n}", "--seed", n]))
"""


def test_a_launcher_may_start_trainings_of_their_own(monkeypatch):
    monkeypatch.setenv("RNNCORE_ALONE", "1")
    Path("alone.py").write_text(ALONE)
    status, out, err = end(start(2, "alone.py", program=[sys.executable]))
    assert status == 0, err
    assert out.count("saved") == 2 and "processes" not in out
    assert weights("alone0") != weights("alone1")


def test_without_mpi4py_one_line_says_so(here):
    (here / "mpi4py").mkdir()
    (here / "mpi4py" / "__init__.py").write_text("raise ImportError('not here')")
    status, _, err = end(start(2, "train"))
    lines = [line for line in err.splitlines() if line.startswith("rnncore train:")]
    assert status == 2 and len(lines) == 1 and "pip install rnncore[mpi]" in lines[0]


def test_without_mpiexec_mpi4py_is_not_imported(here):
    (here / "mpi4py").mkdir()
    (here / "mpi4py" / "__init__.py").write_text("raise ImportError('not here')")
    done = subprocess.run([*RNNCORE, "train", *TASKS["tag"], "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
