"""Methods that are small enough to have here: each makes a generation of candidates, and learns their values."""

from __future__ import annotations

import numpy as np

from rnncore.optim.arguments import check_choice, check_count, check_number

__all__ = ["Annealing", "Evolution", "Genetic", "Guessing"]


class _Method:
    """Where a search takes place, and its random numbers."""

    def __init__(
        self, start: np.ndarray, low: np.ndarray, high: np.ndarray, budget: int, rng: np.random.Generator
    ) -> None:
        self.n, self.low, self.high, self.budget, self.rng = len(start), low, high, budget, rng
        self.width = high - low

    def guesses(self, count: int) -> np.ndarray:
        """Draw candidates, uniform within the bounds."""
        return self.rng.uniform(self.low, self.high, (count, self.n))


class Guessing(_Method):
    """Guess, and forget."""

    def __init__(
        self,
        start: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        budget: int,
        rng: np.random.Generator,
        *,
        batch: int = 64,
    ) -> None:
        super().__init__(start, low, high, budget, rng)
        check_count("batch", batch, 1)
        self.batch = batch

    def ask(self) -> np.ndarray:
        """Return the next candidates."""
        return self.guesses(self.batch)

    def tell(self, candidates: np.ndarray, values: np.ndarray) -> None:
        """Learn nothing."""


class Genetic(_Method):
    """A child is c = p + u·(q - p), each u of its own from U[-blend, 1 + blend]; then some genes get N(0, scale·width).

    Parents p, q win a tournament each. The best of a generation, `elite` of them, live on as they are.
    """

    def __init__(
        self,
        start: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        budget: int,
        rng: np.random.Generator,
        *,
        population: int = 60,
        tournament: int = 3,
        blend: float = 0.5,
        mutation_rate: float = 0.1,
        mutation_scale: float = 0.1,
        elite: int = 2,
    ) -> None:
        super().__init__(start, low, high, budget, rng)
        check_count("population", population, 2)
        check_count("tournament", tournament, 1)
        check_count("elite", elite, 0)
        check_number("blend", blend, "[0, 10]", 0.5)
        check_number("mutation_rate", mutation_rate, "[0, 1]", 0.1)
        check_number("mutation_scale", mutation_scale, "[0, 10]", 0.1)
        if elite >= population:
            raise ValueError(f"elite: expected less than population={population}, got {elite}")
        self.population, self.tournament, self.blend, self.elite = population, tournament, blend, elite
        self.rate, self.scale = mutation_rate, mutation_scale
        self.living, self.values = np.empty((0, self.n)), np.empty(0)

    def ask(self) -> np.ndarray:
        """Return the children of a generation."""
        if not len(self.living):
            return self.guesses(self.population)
        rng, shape = self.rng, (self.population - self.elite, self.n)
        drawn = rng.integers(len(self.living), size=(2, shape[0], self.tournament))
        winners = np.take_along_axis(drawn, self.values[drawn].argmin(axis=2)[..., None], axis=2)[..., 0]
        p, q = self.living[winners]
        children = p + rng.uniform(-self.blend, 1 + self.blend, shape) * (q - p)
        mutated = rng.random(shape) < self.rate
        found: np.ndarray = children + mutated * rng.standard_normal(shape) * self.scale * self.width
        return found

    def tell(self, candidates: np.ndarray, values: np.ndarray) -> None:
        """Let the elite live on beside the children."""
        best = np.argsort(self.values, kind="stable")[: self.elite]
        self.living = np.concatenate([self.living[best], candidates])
        self.values = np.concatenate([self.values[best], values])


class Annealing(_Method):
    """A step is N(0, s·width) with s = step·sqrt(T/T_0); it is taken where Δ <= 0, else with probability exp(-Δ/T).

    T_0 is the standard deviation of 20 guesses, the best of which is where the walk begins, unless `temperature` says.
    T is multiplied by `cooling` after each step; without one it falls to T_0/1000 within the budget, or within its part
    of it where there are restarts, each of which begins anew.
    """

    GUESSES = 20

    def __init__(
        self,
        start: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        budget: int,
        rng: np.random.Generator,
        *,
        temperature: float | None = None,
        cooling: float | None = None,
        step: float = 0.1,
        chains: int = 1,
        restarts: int = 0,
    ) -> None:
        super().__init__(start, low, high, budget, rng)
        if temperature is not None:
            check_number("temperature", temperature, "(0, inf]", 1.0)
        if cooling is not None:
            check_number("cooling", cooling, "(0, 1]", 0.999)
        check_number("step", step, "(0, 10]", 0.1)
        check_count("chains", chains, 1)
        check_count("restarts", restarts, 0)
        self.steps = max(1, budget // (chains * (restarts + 1)))
        self.cooling = 1000.0 ** (-1 / self.steps) if cooling is None else cooling
        self.given, self.step, self.chains = temperature, step, chains
        self.at, self.values, self.heat, self.first, self.taken = np.empty((0, self.n)), np.empty(0), 1.0, 1.0, 0

    def ask(self) -> np.ndarray:
        """Return a step of each chain."""
        if not len(self.at):
            return self.guesses(max(self.GUESSES, self.chains))
        s = self.step * np.sqrt(self.heat / self.first)
        found: np.ndarray = self.at + self.rng.standard_normal(self.at.shape) * s * self.width
        return found

    def tell(self, candidates: np.ndarray, values: np.ndarray) -> None:
        """Take steps or stay, and cool."""
        if not len(self.at):
            best = np.argsort(values, kind="stable")[: self.chains]
            self.at, self.values, self.taken = candidates[best], values[best], 0
            finite = values[np.isfinite(values)]
            spread = float(finite.std()) if len(finite) else 0.0
            self.heat = self.first = self.given or spread or 1.0
            return
        with np.errstate(over="ignore", invalid="ignore"):
            worse = np.where(values <= self.values, 0.0, values - self.values)
            taken = self.rng.random(self.chains) < np.exp(-worse / self.heat)
        self.at = np.where(taken[:, None], candidates, self.at)
        self.values = np.where(taken, values, self.values)
        self.heat *= self.cooling
        self.taken += 1
        if self.taken >= self.steps:
            self.at = np.empty((0, self.n))


class Evolution(_Method):
    """Strategies (μ, λ) and (μ + λ), each individual x with a step size σ of its own.

    σ' = σ·exp(N(0, 1)/sqrt(n)), x' = x + σ'·width·N(0, I). With intermediate recombination all children have one
    parent, the mean x and the geometric mean σ of all μ; without, one of the μ each.
    """

    def __init__(
        self,
        start: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        budget: int,
        rng: np.random.Generator,
        *,
        parents: int = 5,
        offspring: int = 35,
        selection: str = "comma",
        recombination: str = "intermediate",
        sigma: float = 0.1,
    ) -> None:
        super().__init__(start, low, high, budget, rng)
        check_count("parents", parents, 1)
        check_count("offspring", offspring, parents if selection == "comma" else 1)
        check_choice("selection", selection, ("comma", "plus"))
        check_choice("recombination", recombination, ("intermediate", "none"))
        check_number("sigma", sigma, "(0, 10]", 0.1)
        self.parents, self.offspring, self.plus = parents, offspring, selection == "plus"
        self.mixed, self.rate = recombination == "intermediate", 1 / np.sqrt(self.n)
        self.x, self.values = np.empty((0, self.n)), np.empty(0)
        self.sizes, self.made = np.empty(0), np.full(max(parents, offspring), sigma)

    def ask(self) -> np.ndarray:
        """Return children."""
        if not len(self.x):
            return self.guesses(len(self.made))
        rng, count = self.rng, self.offspring
        if self.mixed:
            x, sizes = self.x.mean(axis=0), np.full(count, np.exp(np.log(self.sizes).mean()))
        else:
            chosen = rng.integers(len(self.x), size=count)
            x, sizes = self.x[chosen], self.sizes[chosen]
        self.made = sizes * np.exp(self.rate * rng.standard_normal(count))
        found: np.ndarray = x + self.made[:, None] * self.width * rng.standard_normal((count, self.n))
        return found

    def tell(self, candidates: np.ndarray, values: np.ndarray) -> None:
        """Select the next parents."""
        x, sizes = candidates, self.made
        if self.plus:
            x, sizes = np.concatenate([self.x, x]), np.concatenate([self.sizes, sizes])
            values = np.concatenate([self.values, values])
        best = np.argsort(values, kind="stable")[: self.parents]
        self.x, self.sizes, self.values = x[best], sizes[best], values[best]
