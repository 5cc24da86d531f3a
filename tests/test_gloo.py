"""torch.distributed (gloo): trainings over it, and PyTorch's own data-parallel training of our modules."""

import os
import subprocess
import sys

import numpy as np
from peers import peer

import rnncore as rc

torch = peer("torch")

LEARNS = """
import os
import sys
import numpy as np
import torch.distributed as dist
import rnncore as rc

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
sentences, tags = rc.datasets.news_requests(60)
tagger = rc.SequenceTagger(hidden_size=8, max_epochs=2, random_state=None if sys.argv[3] == "None" else 0)
tagger.fit(sentences, tags, comm=dist if rank else dist.group.WORLD, shards=4)
np.save(f"{folder}/theta{rank}.npy", tagger.network_.theta)
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # the end of PyTorch's threads is not what is tested: now and then it aborts
"""

DATA_PARALLEL = """
import sys
import numpy as np
import torch
import torch.distributed as dist
import rnncore.torch
from torch.nn.parallel import DistributedDataParallel

rank, folder, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if size > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
torch.manual_seed(0)
torch.set_num_threads(1)
model = rnncore.torch.LSTM(5, 7, num_layers=2, bidirectional=True)
x, y = torch.randn(6, 8, 5), torch.randn(6, 8, 14)
trained = DistributedDataParallel(model) if size > 1 else model
optimizer = torch.optim.SGD(model.parameters(), 0.5)
mine = slice(rank * 8 // size, (rank + 1) * 8 // size)
for _ in range(3):
    optimizer.zero_grad()
    loss = ((trained(x[:, mine])[0] - y[:, mine]) ** 2).mean()
    loss.backward()
    optimizer.step()
np.save(f"{folder}/of{size}-{rank}.npy", torch.cat([one.detach().flatten() for one in model.parameters()]).numpy())
if size > 1:
    dist.barrier()
    dist.destroy_process_group()
"""


def run(program, size, folder, *more):
    """Run a program in several processes."""
    command = [sys.executable, "-c", program]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(folder), *more],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        )
        for rank in range(size)
    ]
    for process in started:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err


def test_a_training_over_gloo_has_the_bits_of_one_process(tmp_path):
    run(LEARNS, 2, tmp_path, "0")
    sentences, tags = rc.datasets.news_requests(60)
    alone = rc.SequenceTagger(hidden_size=8, max_epochs=2).fit(sentences, tags, shards=4)
    for rank in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"theta{rank}.npy"), alone.network_.theta)


def test_our_modules_under_distributed_data_parallel(tmp_path):
    run(DATA_PARALLEL, 1, tmp_path, "1")
    run(DATA_PARALLEL, 2, tmp_path, "2")
    first, second = (np.load(tmp_path / f"of2-{rank}.npy") for rank in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, np.load(tmp_path / "of1-0.npy"), rtol=1e-5, atol=1e-6)
