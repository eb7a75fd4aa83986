"""Run by both of two processes: FOLDER takes what each has to say.

They divide the images and find what one finds alone; what one cannot do both say, and neither waits for ever.
"""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor, nn

from hf_warmup.certified import blocks
from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.certified.blocks import Blocks, Part
from hf_warmup.certified.evaluation import assess
from hf_warmup.data.images import Images
from hf_warmup.errors import ConfigError
from hf_warmup.training.accelerator import join_processes


join_processes(cpu=True, patience=blocks.PATIENCE)
rank = PartialState().process_index
assert PartialState().num_processes == 2

torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
images = Images(torch.randint(0, 256, (100, 1, 4, 4)).byte(), torch.randint(0, 3, (100,)))
attack = PgdConfig(steps=3, restarts=2, examples=70)
alone = assess(model, images, "1/50", attack=attack, batch_size=32)
shared = assess(model, images, "1/50", attack=attack, batch_size=32, blocks=Blocks(shared=True))
assert alone.broken is not None
assert shared.broken is not None
for name in ("predictions", "clean", "verified", "margin", "broken"):
    assert torch.equal(getattr(alone, name), getattr(shared, name)), name
assert 0 < int(alone.broken.sum()) < 70

worked = []


def work(chosen: Tensor, told: object) -> Part:
    worked.append(int(chosen[0]))
    if 3 in chosen:
        raise ConfigError("image 3 is in the way")
    return Part({"image": chosen})


for count in (3, 10):
    try:
        parts = Blocks(shared=True).each("word", torch.arange(count), 2, work)
        Path(sys.argv[1], f"said{rank}").open("a").write(f"{[int(part.tensors['image'][0]) for part in parts]}\n")
    except ConfigError as error:
        Path(sys.argv[1], f"said{rank}").open("a").write(f"{error} after {worked}\n")
