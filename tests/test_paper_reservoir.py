"""What echo state networks are known for (`-m paper`): chaotic series, remembered inputs, nonlinear moving averages."""

import numpy as np
import peers
import pytest
from paper import report

import rnncore as rc
from rnncore import datasets
from rnncore.models.reservoir import memory_capacity

pytestmark = pytest.mark.paper
