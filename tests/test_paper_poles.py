"""Two poles on a cart, balanced by a network that is not told how fast anything moves (long; `pytest -m paper`).

The task of Wieland 1991, without velocities as Gruau, Whitley and Pyeatt 1996 set it and Gomez, Schmidhuber and
Miikkulainen 2008 compare methods by: a cart of 1 kg on a track, poles of 1 m and 0.1 m that weigh 0.1 and 0.01 kg.
With l half a pole's length and g = -9.8:

    ẍ = (F + Σ f_i) / (M + Σ m_i·(1 - ¾·cos²θ_i))      f_i = m_i·l_i·θ̇_i²·sin θ_i + ¾·m_i·cos θ_i·(d_i + g·sin θ_i)
    θ̈_i = -¾·(ẍ·cos θ_i + g·sin θ_i + d_i) / l_i       d_i = 2·10⁻⁶·θ̇_i/(m_i·l_i)

by Runge and Kutta's method, two steps of 10 ms for each force of up to 10 N. The long pole begins at 4.5°; beyond 2.4 m
or 36° all is lost.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from paper import for_each_seed, layer, solved_by
from peers import peer

import rnncore as rc

pytestmark = pytest.mark.paper

GRAVITY, HINGE = -9.8, 2e-6
LONG, SHORT = (0.1, 0.5), (0.01, 0.05)  # kg, half a length in m
WIDEST = math.radians(36)

State = list[float]  # x, ẋ, θ_1, θ̇_1, θ_2, θ̇_2


def slopes(s: State, force: float) -> State:
    mass, parts = 1.0, []
    for (m, half), angle, turning in ((LONG, s[2], s[3]), (SHORT, s[4], s[5])):
        sin, cos, drag = math.sin(angle), math.cos(angle), HINGE * turning / (m * half)
        force += m * half * turning * turning * sin + 0.75 * m * cos * (drag + GRAVITY * sin)
        mass += m * (1 - 0.75 * cos * cos)
        parts.append((half, sin, cos, drag))
    pushed = force / mass
    first, second = (-0.75 * (pushed * cos + GRAVITY * sin + drag) / half for half, sin, cos, drag in parts)
    return [s[1], pushed, s[3], first, s[5], second]


def moved(s: State, force: float, h: float = 0.01) -> State:
    for _ in range(2):
        a = slopes(s, force)
        b = slopes([y + h / 2 * d for y, d in zip(s, a, strict=True)], force)
        c = slopes([y + h / 2 * d for y, d in zip(s, b, strict=True)], force)
        d = slopes([y + h * d for y, d in zip(s, c, strict=True)], force)
        s = [y + h / 6 * (p + 2 * q + 2 * r + t) for y, p, q, r, t in zip(s, a, b, c, d, strict=True)]
    return s


def balanced(net: rc.Recurrent, most: int) -> tuple[int, list[float]]:
    """Return how many forces both poles stand, and how much the cart and the long pole move at each."""
    session, x = net.session(), np.empty((1, 1, 3), dtype=np.float32)
    s, swings = [0.0, 0.0, math.radians(4.5), 0.0, 0.0, 0.0], []
    for step in range(most):
        x[0, 0] = s[0] / 4.8, s[2] / 0.52, s[4] / 0.52
        s = moved(s, 10 * float(session.run(x)[0, 0, 0]))
        if abs(s[0]) > 2.4 or max(abs(s[2]), abs(s[4])) > WIDEST:
            return step, swings
        swings.append(sum(map(abs, s[:4])))
    return most, swings


def test_energy_stays_without_friction_or_force(monkeypatch):
    """What the equations must keep: of poles that swing freely, kinetic and potential energy together."""
    monkeypatch.setattr(sys.modules[__name__], "HINGE", 0.0)

    def energy(s: State) -> float:
        found = 0.5 * s[1] ** 2
        for (m, half), angle, turning in ((LONG, s[2], s[3]), (SHORT, s[4], s[5])):
            across, up = s[1] + half * turning * math.cos(angle), -half * turning * math.sin(angle)
            found += 0.5 * m * (across**2 + up**2 + half**2 * turning**2 / 3) - m * GRAVITY * half * math.cos(angle)
        return found

    s = [0.0, 0.1, 0.3, 0.0, -0.2, 0.0]
    before = energy(s)
    for _ in range(50):
        s = moved(s, 0.0)
    assert energy(s) == pytest.approx(before, rel=1e-5)


def test_two_poles_without_velocities(tell):
    """Three tanh units, the first of which pushes; to be balanced over 100,000 forces, more than half an hour."""
    peer("cma")
    solved = -1e9

    def objective(net: rc.Recurrent) -> float:
        """Gruau's: how long, and how still at the end, so that a cart that only shakes does not win."""
        steps, swings = balanced(net, 1000)
        if steps == 1000 and balanced(net, 100_000)[0] == 100_000:
            return solved
        return -(0.1 * steps / 1000 + (0.9 * 0.75 / sum(swings[-100:]) if steps >= 100 else 0))

    def attempt(seed: int) -> tuple[int, bool]:
        net = layer("elman", 3, 3, seed, activation="tanh")
        found = rc.search.minimize(net, objective, "cma", target=solved, max_evaluations=10_000, random_state=seed)
        return found.evaluations, found.value == solved

    results = for_each_seed(tell, attempt, criterion="100,000 forces within 10,000 evaluations; 4 of 5")
    solved_by([held for _, held in results], 4)
