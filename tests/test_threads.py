"""Threads: how many, same bits for any number, and what happens with fork and with Python's own threads."""

import math
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """A fresh interpreter: it may hang or crash without taking the tests with it."""
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def default_threads():
    before = rc.get_num_threads()
    yield
    rc.set_num_threads(before)


def test_setting(default_threads):
    for n in (1, 3, 8, 2):
        rc.set_num_threads(n)
        assert rc.get_num_threads() == n


@pytest.mark.parametrize("n", [0, -1, 2.5, "two", float("nan")])
def test_bad_numbers(n, default_threads):
    before = rc.get_num_threads()
    with pytest.raises((ValueError, TypeError), match="thread"):
        rc.set_num_threads(n)
    assert rc.get_num_threads() == before
    with pytest.raises((ValueError, TypeError), match="thread"):
        rc.Recurrent("elman", input_size=2, hidden_size=2, n_threads=n)


def test_environment_variable():
    code = "import rnncore as rc; print(rc.get_num_threads())"
    assert run_python(code, RNNCORE_NUM_THREADS="3").stdout.strip() == "3"
    for bad in ("0", "-2", "many", ""):
        result = run_python(code, RNNCORE_NUM_THREADS=bad)  # an error that names it, or the default
        assert "RNNCORE_NUM_THREADS" in result.stderr or int(result.stdout) >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_the_default_follows_the_affinity():
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{one_core}; import rnncore as rc; print(rc.get_num_threads())"
    environment = {key: value for key, value in os.environ.items() if key != "RNNCORE_NUM_THREADS"}
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.strip() == "1"


def training_bits(n_threads, dtype="float32", steps=4, truncate=None, **options):
    """Weights, losses and predictions after a few steps of a network with everything in it."""
    rng = np.random.default_rng(51)
    net, head, V = ref.Stack(12, 19, 2, "concat", truncate=truncate), ref.Head("softmax", 7), 40
    made = twins.network(net, head, symbols=V, dtype=dtype, n_threads=n_threads, random_state=3, **options)
    opt, losses = rc.Adam(learning_rate=0.01, clip_norm=0.5), []
    for _ in range(steps):
        T, B = rng.integers(1, 20), rng.integers(1, 40)
        x, targets = rng.integers(0, V, (T, B)), rng.integers(-1, 7, (T, B))
        targets[0, 0] = 0
        losses.append(made.train_step(x, targets, opt, lengths=twins.random_lengths(rng, T, B)))
    return made.theta.copy(), np.array(losses), made.predict(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", [{}, {"dropout": 0.3, "recurrent_dropout": 0.2}, {"truncate": 3}], ids=["plain", "dropout", "truncated"]
)
def test_training_gives_the_same_bits(dtype, options):
    wanted = training_bits(1, dtype, **options)
    for n in (2, 3, 8, 100):
        for one, other in zip(wanted, training_bits(n, dtype, **options), strict=True):
            twins.assert_same_bits(one, other)


@pytest.mark.kernels
def test_gradients_of_large_weights():
    """More than 6 MB of them are summed over more rows at a time; a thread's share of them is less."""
    rng = np.random.default_rng(7)
    x, dy = rng.standard_normal((1, 700, 1003)), rng.standard_normal((1, 700, 805))
    gradients = []
    for n in (1, 3):
        layer = rc.Recurrent("elman", 1003, 805, activation="identity", dtype="float64", n_threads=n)
        layer.forward(x)
        layer.backward(dy)
        gradients.append(layer.grad.copy())
    np.testing.assert_allclose(layer.grads["layers.0.fwd.W_xh"], x[0].T @ dy[0], rtol=0, atol=1e-11)
    np.testing.assert_allclose(layer.grads["layers.0.fwd.b_h"], dy[0].sum(0), rtol=0, atol=1e-11)
    twins.assert_same_bits(*gradients)


def test_a_repeated_run_gives_the_same_bits():
    for one, other in zip(training_bits(3), training_bits(3), strict=True):
        np.testing.assert_array_equal(one, other)


PRELUDE = """
    import os, sys, signal
    sys.path.insert(0, {tests!r})
    import numpy as np
    import test_threads as t
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_after_threads_were_used():
    """The child has no threads of its parent's; it must start its own, and the parent must not notice."""
    code = textwrap.dedent(PRELUDE.format(tests=os.path.dirname(__file__))) + textwrap.dedent("""
        wanted = t.training_bits(4)
        children = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                signal.alarm(60)
                got = t.training_bits(4)
                os._exit(0 if all(np.array_equal(a, b) for a, b in zip(wanted, got)) else 1)
            children.append(pid)
        t.training_bits(4)
        for pid in children:
            status = os.waitpid(pid, 0)[1]
            assert status == 0, status
        assert all(np.array_equal(a, b) for a, b in zip(wanted, t.training_bits(4)))
        print("fine")
    """)
    result = run_python(code)
    assert result.stdout.strip() == "fine", result.stderr


def test_multiprocessing_and_exit():
    """Workers started by fork and by spawn; and an interpreter that ends with threads alive."""
    code = textwrap.dedent(PRELUDE.format(tests=os.path.dirname(__file__))) + textwrap.dedent("""
        import multiprocessing
        if __name__ == "__main__":
            wanted = t.training_bits(3)
            method = "fork" if hasattr(os, "fork") else "spawn"
            with multiprocessing.get_context(method).Pool(2) as pool:
                for got in pool.map(t.training_bits, [1, 2, 3]):
                    assert all(np.array_equal(a, b) for a, b in zip(wanted, got))
            print("fine")
    """)
    result = run_python(code)
    assert result.stdout.strip() == "fine", result.stderr
    assert result.returncode == 0


def in_threads(*functions):
    """Run all at once; the results, or what was raised instead."""
    results = [None] * len(functions)
    gate = threading.Barrier(len(functions))

    def call(i):
        gate.wait()
        try:
            results[i] = functions[i]()
        except Exception as problem:
            results[i] = problem

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive()
    return results


@pytest.mark.parametrize("n_threads", [1, 2])
def test_two_networks_in_two_threads(n_threads):
    """Each one alone and both at once: the same bits."""
    wanted = training_bits(n_threads, steps=30)
    for result in in_threads(*[lambda: training_bits(n_threads, steps=30)] * 4):
        for one, other in zip(wanted, result, strict=True):
            twins.assert_same_bits(one, other)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_one_network_in_two_threads(n_threads):
    """Right or refused, never anything else."""
    rng = np.random.default_rng(52)
    net = ref.Stack(8, 33, num_layers=2)
    layer = twins.layer(net, net.random_params(rng, 0.3), n_threads=n_threads)
    inputs = [rng.standard_normal((30, b, 8)) for b in (5, 17, 30, 1)]
    wanted = [layer.forward(x, training=False)[0] for x in inputs]

    def often(i):
        refused = 0
        for _ in range(50):
            try:
                y, _ = layer.forward(inputs[i], training=False)
            except RuntimeError as problem:
                assert len(str(problem)) > 20
                refused += 1
                continue
            twins.assert_same_bits(y, wanted[i])
        return refused

    for result in in_threads(*[lambda i=i: often(i) for i in range(4)]):
        assert isinstance(result, int), result
    twins.assert_same_bits(layer.forward(inputs[0], training=False)[0], wanted[0])  # and usable afterwards


def test_one_network_trained_in_two_threads():
    rng = np.random.default_rng(53)
    net, head = ref.Stack(8, 20), ref.Head("softmax", 4)
    made = twins.network(net, head, params=twins.random_params(net, head, rng))
    batches = [(rng.standard_normal((20, b, 8)), rng.integers(0, 4, (20, b))) for b in (4, 9, 25)]
    wanted = [made.loss_and_grad(*batch) for batch in batches]

    def often(i):
        for _ in range(50):
            try:
                loss = made.loss_and_grad(*batches[i])
            except RuntimeError as problem:
                assert len(str(problem)) > 20
                continue
            assert loss == pytest.approx(wanted[i], rel=1e-12)
        return "fine"

    assert in_threads(*[lambda i=i: often(i) for i in range(3)]) == ["fine"] * 3
    assert made.loss_and_grad(*batches[0]) == pytest.approx(wanted[0], rel=1e-12)


def test_other_python_threads_run_meanwhile():
    """The kernels work without the interpreter's lock."""
    net = ref.Stack(64, 256)
    layer = twins.layer(net, dtype="float32", n_threads=1)
    x = np.zeros((200, 16, 64), np.float32)
    layer.forward(x, training=False)
    stop, beats = threading.Event(), []

    def count():
        n = 0
        while not stop.is_set():
            n += 1
            stop.wait(0.0005)
        beats.append(n)

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(20):
        layer.forward(x, training=False)
    stop.set()
    thread.join()
    assert beats[0] > 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX signals")
def test_ctrl_c_between_steps():
    """KeyboardInterrupt arrives during a training loop and leaves the network usable."""
    code = textwrap.dedent(PRELUDE.format(tests=os.path.dirname(__file__))) + textwrap.dedent("""
        import threading, time
        import reference as ref, twins, rnncore as rc
        made = twins.network(ref.Stack(8, 32), ref.Head("softmax", 4))
        x, targets = np.zeros((20, 8, 8)), np.zeros((20, 8), int)
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        opt, start = rc.SGD(learning_rate=0.1), time.perf_counter()
        try:
            while time.perf_counter() - start < 20:
                made.train_step(x, targets, opt)
        except KeyboardInterrupt:
            assert np.isfinite(made.theta).all()
            made.train_step(x, targets, opt)
            print("fine")
    """)
    result = run_python(code)
    assert result.stdout.strip() == "fine", result.stderr


ENVIRONMENT = "import rnncore as rc; print(rc.get_num_threads())"


@pytest.mark.parametrize(
    ("variables", "n"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": " 5, 2"}, 5),
        ({"OMP_NUM_THREADS": "3", "RNNCORE_NUM_THREADS": "4"}, 4),
        ({"OMP_NUM_THREADS": "3", "RNNCORE_NUM_THREADS": ""}, 3),
        ({"OMP_NUM_THREADS": "99999999999999999999"}, 64),
        *(({"OMP_NUM_THREADS": bad}, None) for bad in ("", "0", "-1", "many", "1.5", "²")),
    ],
    ids=str,
)
def test_variables_of_the_environment(variables, n):
    """OpenMP's own, too; one that OpenMP would not understand counts as not there."""
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    run = {"capture_output": True, "text": True, "timeout": 60, "check": True}
    done = subprocess.run([sys.executable, "-c", ENVIRONMENT], env=plain | variables, **run)
    if n is None:
        n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(done.stdout) == n


LIMITS = """
{first}
{second}
from rnncore import _threads
rc.set_num_threads(6)
wanted = lambda: (rc.get_num_threads(), _threads.resolve(8), _threads.resolve(1))
assert wanted() == (6, 8, 1), wanted()
with threadpoolctl.threadpool_limits(2):
    assert wanted() == (2, 2, 1), wanted()
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert wanted() == (1, 1, 1), wanted()
    rc.set_num_threads(7)
    assert wanted() == (2, 2, 1), wanted()
assert wanted() == (7, 8, 1), wanted()
with threadpoolctl.threadpool_limits(7):
    assert wanted() == (7, 7, 1), wanted()
with threadpoolctl.threadpool_limits(1, user_api="blas"):
    assert wanted() == (7, 8, 1), wanted()
(ours,) = [found for found in threadpoolctl.threadpool_info() if found["internal_api"] == "rnncore"]
assert (ours["num_threads"], ours["version"]) == (7, rc.__version__)
"""


@pytest.mark.parametrize("order", [1, -1])
def test_limits_of_threadpoolctl(order):
    """Whichever of the two was imported first."""
    first, second = ["import threadpoolctl", "import rnncore as rc"][::order]
    done = subprocess.run(
        [sys.executable, "-c", LIMITS.format(first=first, second=second)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_an_infinite_number_of_threads():
    for n in (math.inf, -math.inf, math.nan, 10**400):
        with pytest.raises(ValueError, match="number of threads"):
            rc.set_num_threads(n if n != 10**400 else -n)
