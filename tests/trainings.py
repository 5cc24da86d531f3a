"""Short trainings of everything that learns, and the weights they end at; `python tests/trainings.py` prints them.

`trainings_0_1.json` has what version 0.1 printed: by instruction-set level the hash of the weights' bits with native
products, and, for levels and machines that were not there, the weights' figures.
"""

import hashlib
import json
from collections.abc import Iterator

import numpy as np

import rnncore as rc

T, B, D, H, K = 7, 5, 6, 9, 4
# Version 0.1's cells and their variants.
CELLS = [
    *[(name, {}) for name in ("elman", "gru", "jordan", "lstm", "mgu", "mut1", "mut2", "mut3")],
    ("lstm", {"peepholes": True}),
    ("lstm", {"proj_size": 3}),
    ("lstm", {"layer_norm": True}),
    ("lstm", {"variant": "FGR"}),
    ("lstm", {"variant": "1997"}),
    ("gru", {"reset": "before"}),
    ("elman", {"activation": "binary"}),
]
# What a tagger's settings were before they were chosen by the data.
DEFAULTS = {
    **{"hidden_size": 32, "learning_rate": 0.02, "window": 0, "affixes": 0, "shapes": False},
    **{"dropout": 0.5, "input_dropout": 0.0, "word_dropout": 0.3},
}
STACKS = [
    {"bidirectional": True, "num_layers": 2, "dropout": 0.2},
    {"bidirectional": True, "merge": "sum", "output_dropout": 0.3},
    {"recurrent_dropout": 0.3, "input_dropout": 0.2},
    {"truncate": 3, "num_layers": 2},
    {"zoneout": 0.2},
    {"reverse": True, "recurrent_dropout": 0.2, "recurrent_dropout_mode": "step"},
]


def figures(theta: np.ndarray) -> dict:
    """What tells one set of weights from another: their bits, and some of them with their sum and sum of squares."""
    theta = np.ascontiguousarray(theta).reshape(-1)
    exact = theta.astype(np.float64)
    some = exact[:111:37]
    return {
        "bits": hashlib.sha256(theta.tobytes()).hexdigest()[:16],
        "figures": [float(f"{value:.12g}") for value in (exact.sum(), exact @ exact, *some)],
    }


def name_of(*parts: object) -> str:
    return " ".join(
        " ".join(f"{key}={value}" for key, value in part.items()) if isinstance(part, dict) else str(part)
        for part in parts
        if part != {}
    )


def of_cells(dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Three steps of Adam for each cell below each stack: dense rows and a head at every step, ids and a CRF."""
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((T, B, D)), rng.integers(1, T + 1, B)
    ids, targets = rng.integers(0, 11, (T, B)), rng.integers(0, K, (T, B))
    for cell, options in CELLS:
        for stack in STACKS:
            if "zoneout" in stack and (cell == "jordan" or options.get("variant") == "FGR"):
                continue
            for inputs, width, head in ((x, D, rc.Softmax(K)), (ids, 11, rc.CRF(K))):
                layer = rc.Recurrent(cell, width, H, dtype=dtype, random_state=1, **stack, **options)
                net, adam = rc.Network(layer, head=head), rc.Adam(0.01, clip_norm=1.0)
                for _ in range(3):
                    net.train_step(inputs, targets, adam, lengths=lengths)
                yield name_of(dtype, cell, options, stack, type(head).__name__), net.theta


def of_networks() -> Iterator[tuple[str, np.ndarray]]:
    """Bags, embeddings, sparse features, mixed layers, and one net of a size that threads share."""
    rng = np.random.default_rng(1)
    bags, lengths = rng.integers(-1, 11, (T, B, 3)), rng.integers(1, T + 1, B)
    sparse, targets = rng.integers(-1, 7, (T, B, 2)), rng.standard_normal((T, B, 3))
    layers = [rc.Recurrent("elman", 11, 6, random_state=1), rc.Recurrent("lstm", 6, 5, random_state=2)]
    net, optimizer = rc.Network(layers, head=rc.SquaredError(3), skip=7), rc.RMSprop(0.01)
    for _ in range(4):
        net.train_step((bags, sparse), targets, optimizer, lengths=lengths)
    yield "mixed layers, bags, sparse features", net.theta
    embedding = rc.Embedding(11, 5)
    net = rc.Network(rc.Recurrent("gru", 5, H, random_state=4), head=rc.CRF(K), embedding=embedding)
    optimizer = rc.Adam(0.01)
    for _ in range(4):
        net.train_step(bags, rng.integers(0, K, (T, B)), optimizer, lengths=lengths)
    yield "embedded bags", net.theta
    net = rc.Network(rc.Recurrent("gru", 64, 128, num_layers=2, random_state=5), head=rc.Softmax(9))
    x, targets = rng.standard_normal((30, 40, 64)).astype("f4"), rng.integers(0, 9, (30, 40))
    for _ in range(3):
        net.train_step(x, targets, rc.SGD(0.1))
    yield "two layers of 128", net.theta


def of_streams() -> Iterator[tuple[str, np.ndarray]]:
    """Real-time recurrent learning and the extended Kalman filter."""
    rng = np.random.default_rng(2)
    x, targets = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    layer = rc.Recurrent("elman", 3, 5, dtype="float64", random_state=6)
    net = rc.Network(layer, head=rc.SquaredError(2, project=False))
    rc.RTRL(net, rc.SGD(0.1)).run(x, targets)
    yield "RTRL", net.theta
    net = rc.Network(rc.Recurrent("lstm", 3, 4, dtype="float64", random_state=7), head=rc.SquaredError(2))
    rc.EKF(net, window=5).run(x, targets)
    yield "EKF", net.theta


def of_the_replica() -> Iterator[tuple[str, np.ndarray]]:
    """The costs of each iteration, which all weights enter."""
    from rnncore.datasets import news_requests
    from rnncore.replica import Config, HiddenLayer, Replica

    for version in ("1.0", "1.1"):
        config = Config(epochs=2, iterations=20, hidden=(HiddenLayer(16),))
        yield f"replica {version}", Replica(version, config).fit(*news_requests(200)).costs_


def read_words(path: str) -> tuple[list[list[str]], list[list[str]]]:
    """Read sentences of lines `word<tab>label`."""
    with open(path, encoding="utf-8") as file:
        sentences = [[line.split("\t") for line in part.splitlines()] for part in file.read().strip().split("\n\n")]
    return [[row[0] for row in part] for part in sentences], [[row[-1] for row in part] for part in sentences]


def of_the_tagger(sentences: list, tags: list) -> Iterator[tuple[str, np.ndarray]]:
    """The tagger as it comes, and two of its other shapes."""
    for settings in (
        {},
        {"cell": "lstm", "head": "softmax", "skip": True},
        {"cell": "gru", "embedding_size": 20, "affixes": 2},
    ):
        tagger = rc.SequenceTagger(**DEFAULTS | settings, max_epochs=2, random_state=0).fit(sentences, tags)
        yield name_of("tagger", settings), tagger.network_.theta


def own() -> Iterator[tuple[str, np.ndarray]]:
    """All that need no data."""
    for dtype in ("float32", "float64"):
        yield from of_cells(dtype)
    yield from of_networks()
    yield from of_streams()
    yield from of_the_replica()


if __name__ == "__main__":
    import sys

    found = {name: figures(theta) for name, theta in own()}
    if len(sys.argv) > 1:
        found |= {name: figures(theta) for name, theta in of_the_tagger(*read_words(sys.argv[1]))}
    print(json.dumps(found, indent=0))
