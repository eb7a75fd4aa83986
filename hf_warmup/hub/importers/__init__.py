"""Other people's certified CNN-7 weights as a checkpoint of ours: recognized by names and shapes, never guessed.

All layouts are one `nn.Sequential` of the layers of our `cnn7`, so layer numbers must agree with ours, whatever stands
before them (`module.`, `layers.`, ...). They differ in where normalization happens:

- `fast-certified`, Shi et al. (arXiv 2103.17268): the loader normalizes.
- `ctrain`, the CTRAIN library: the loader normalizes, on MNIST and CIFAR-10 by other numbers than Shi et al.'s.
- `ctbench`, Mao et al. (arXiv 2406.04848): layer 0 normalizes, and the file holds its `mean` and `sigma`.

A state dict says nothing of batch normalization's epsilon; torch's 1e-5, which all three use, is assumed.
Deliberately absent: what a checkpoint's authors say of its accuracy. `hf-warmup certify` finds out.
"""

from hf_warmup.hub.importers.importing import import_weights
from hf_warmup.hub.importers.recognition import DATASETS, LAYOUTS


__all__ = ["DATASETS", "LAYOUTS", "import_weights"]
