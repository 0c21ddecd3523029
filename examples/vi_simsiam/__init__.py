"""The parts of train_vi_simsiam.py and evaluate.py; the other examples share some of them."""

import sys
from importlib.util import find_spec

_missing = [name for name in ("matplotlib", "numpy", "sklearn") if find_spec(name) is None]
if _missing:
    sys.exit(f'the examples need {" and ".join(_missing)}: pip install ".[examples]"')
