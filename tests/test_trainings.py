"""What version 0.1 learned is learned again, to the bit: `trainings.py` trains, the JSON file says what came."""

import json
import platform
from pathlib import Path

import numpy as np
import pytest
import trainings
from twins import native_products

from rnncore._core.kernels import config

RECORDED = json.loads((Path(__file__).parent / "trainings_0_1.json").read_text(encoding="utf-8"))
# These reckon in NumPy, whose products have the bits of the processor's BLAS.
IN_NUMPY = {"RTRL", "EKF"}


def compare(found):
    core = config()
    exact = core["isa"] if native_products() else None
    fused = exact not in ("baseline", "portable") or platform.machine().lower() not in ("x86_64", "amd64")
    if fused and not core["compiler"].startswith("gcc 12."):
        exact = None  # the compiler chooses which products and sums are rounded together
    for name, theta in found.items():
        now, before = trainings.figures(theta), RECORDED[name]
        single = theta.dtype == np.float32
        # 1.2e-6 is the largest difference between the levels in single precision, 1e-17 in double.
        scale = np.sqrt(before["figures"][1])
        np.testing.assert_allclose(
            np.array(now["figures"]) / scale,
            np.array(before["figures"]) / scale,
            rtol=1e-9 if not single else 1e-4,
            atol=1e-9 if not single else 1e-4,
            err_msg=name,
        )
        if exact in before["bits"] and name not in IN_NUMPY:
            assert now["bits"] == before["bits"][exact], name


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells(dtype):
    found = dict(trainings.of_cells(dtype))
    compare(found)
    assert set(found) == {name for name in RECORDED if name.startswith(dtype)}


@pytest.mark.kernels
@pytest.mark.parametrize("train", [trainings.of_networks, trainings.of_streams, trainings.of_the_replica])
def test_networks(train):
    compare(dict(train()))


def test_the_tagger_on_the_news_file(data):
    compare(dict(trainings.of_the_tagger(*trainings.read_words(data("news_tagged_data.txt")))))
