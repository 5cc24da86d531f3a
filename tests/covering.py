"""All pairs of options in few cases: any two values of any two options meet in at least one of them."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Case = dict[str, object]


def pairs(case: Case) -> set[tuple]:
    return set(itertools.combinations(case.items(), 2))


def covering_cases(options: Mapping[str, Sequence], allowed: Callable[[Case], bool], seed: int = 0) -> list[Case]:
    """Greedy: build each case around a pair still missing, as the one of many tries that adds most pairs.

    A pair that no allowed case holds is left out. The same arguments give the same cases.
    """
    rng = np.random.default_rng(seed)
    names = list(options)
    missing = [((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in options[a] for y in options[b]]
    missing_set, cases = set(missing), []
    for pair in missing:
        if pair not in missing_set:
            continue
        best, gain = None, 0
        for _ in range(100):
            case = {name: options[name][rng.integers(len(options[name]))] for name in names} | dict(pair)
            if allowed(case) and len(pairs(case) & missing_set) > gain:
                best, gain = case, len(pairs(case) & missing_set)
        if best is not None:
            cases.append(best)
            missing_set -= pairs(best)
    return cases
