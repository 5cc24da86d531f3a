"""Tasks for Jordan networks: cycles chosen by a plan, and a sine that nobody keeps going from outside (`-m paper`).

Jordan 1986 claims that a learned cycle attracts: pushed away, the network comes back to it. Everything here is taught
with the teacher's outputs fed back, and judged running free.
"""

import numpy as np
import pytest
from paper import solved_by

import rnncore as rc

pytestmark = pytest.mark.paper
SEEDS = range(10)


def taught(seed: int, layer, x, targets, updates: int, noise: float) -> rc.Network:
    """A network that has learned the targets; the teacher's hand shakes by `noise`."""
    rng = np.random.default_rng(seed)
    net = rc.Network(layer, head=rc.SquaredError(layer.output_size, project=False))
    opt = rc.Adam(learning_rate=0.01)
    for _ in range(updates):
        given = targets + noise * rng.standard_normal(targets.shape)
        net.train_step(x, targets, opt, feedback=given)
    return net


# ------------------------------------------------------------------------------------ plan-selected cycles (SPEC 5.5)

CORNERS = np.array([(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)], np.float32)
PUSHES = 50  # of each plan's state


def cycles(T: int, copies: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two plans (T, 2·copies, 2), held still, and where they go: round the corners, and round the other way."""
    t = np.arange(T)
    x = np.broadcast_to(np.eye(2, dtype=np.float32), (T, 2, 2))
    y = np.stack([CORNERS[t % 4], CORNERS[-t % 4]], axis=1)
    return np.repeat(x, copies, axis=1), np.repeat(y, copies, axis=1)


def regained(net: rc.Network, state: tuple[np.ndarray, ...], seed: int) -> float:
    """Push all of a state by Gaussian noise of 0.2; how often is the orbit regained within 3 cycles?

    Regained: from then on the right corners in the right order, each within 0.1. A push may go nearer to another corner
    than the one it started from, so the phase is left open.
    """
    rng = np.random.default_rng(100 + seed)
    state = tuple(np.repeat(part, PUSHES, axis=1) for part in state)
    pushed = tuple(part + 0.2 * rng.standard_normal(part.shape) for part in state)
    x, _ = cycles(24, PUSHES)
    after = net.predict(x, state=pushed)[12:]
    _, orbit = cycles(16, PUSHES)
    errors = [abs(after - orbit[phase : phase + 12]).max(axis=(0, 2)) for phase in range(4)]
    return float((np.min(errors, axis=0) < 0.1).mean())


@pytest.mark.parametrize(
    ("options", "teaching", "share", "wanted"),
    [
        ({"hidden_size": 10, "decay": 0.5}, {"T": 12, "copies": 1, "updates": 4000, "noise": 0.0}, 0.9, 8),
        ({"hidden_size": 20, "decay": 0.3}, {"T": 24, "copies": 8, "updates": 5000, "noise": 0.05}, 1.0, 10),
    ],
    ids=["Jordan's own training", "with a shaking hand"],
)
def test_cycles(options, teaching, share, wanted):
    """200 free steps with every output within 0.1 of its corner, for both plans; and pushed away, the orbit again."""
    solved = []
    for seed in SEEDS:
        layer = rc.Recurrent(
            "jordan",
            input_size=2,
            outputs=2,
            output_activation="sigmoid",
            through_outputs=False,
            random_state=seed,
            n_threads=1,
            **options,
        )
        data = cycles(teaching["T"], teaching["copies"])
        net = taught(seed, layer, *data, teaching["updates"], teaching["noise"])
        x, wanted_outputs = cycles(200)
        y, state = net.predict(x, return_state=True)
        error, back = abs(y - wanted_outputs).max(), regained(net, state, seed)
        print(f"seed {seed}: largest error {error:.3f}, orbit regained {back:.0%}")
        solved.append(error < 0.1 and back >= share)
    solved_by(solved, wanted)


# ----------------------------------------------------------------------------------------- a sine of fixed frequency

PERIOD, AMPLITUDE = 20, 0.8


@pytest.mark.parametrize(
    ("options", "updates"),
    [
        ({"outputs": 2, "hidden_size": 20, "decay": 0.5}, 4000),
        ({"outputs": 1, "hidden_size": 10, "hidden_feedback": True}, 2000),
    ],
    ids=["sine and cosine", "sine alone, with hidden feedback"],
)
def test_sine(options, updates):
    """After 100 free steps the amplitude is right within 0.05 and the period within 3 %.

    A single output is not enough to know whether it is going up or down: it needs a second one, or hidden units that
    remember.
    """
    solved = []
    for seed in SEEDS:
        layer = rc.Recurrent(
            "jordan", input_size=1, output_activation="tanh", random_state=seed, n_threads=1, **options
        )
        angle = 2 * np.pi / PERIOD * np.arange(60)[:, None, None] + np.pi / 2 * np.arange(layer.output_size)
        targets = np.repeat(AMPLITUDE * np.sin(angle), 8, axis=1).astype(np.float32)
        net = taught(seed, layer, np.ones((60, 8, 1), np.float32), targets, updates, 0.02)
        y = net.predict(np.ones((400, 1, 1), np.float32))[100:, 0, 0]
        upwards = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
        period = float(np.diff(upwards).mean()) if len(upwards) > 1 else 0.0
        print(f"seed {seed}: amplitude {abs(y).max():.3f}, period {period:.2f}")
        solved.append(abs(abs(y).max() - AMPLITUDE) < 0.05 and abs(period / PERIOD - 1) < 0.03)
    solved_by(solved, 9)
