"""One thread a process: small networks, and results that do not depend on the machine's cores."""

import torch

torch.set_num_threads(1)
