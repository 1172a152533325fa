"""`python -m tests.gpu.fake_steps HOOKS CASES`: trains on a CUDA device that is not there.

HOOKS is the library built from fake_cuda.cpp, CASES a function of fake_cases.py. Prints one JSON object: the error of
each case, or null.
"""

import ctypes
import json
import sys


def main(hooks: str, cases: str) -> None:
    """Trains all cases, one after the other."""
    take_the_place_of_cuda = ctypes.CDLL(hooks).take_the_place_of_cuda
    take_the_place_of_cuda.restype = ctypes.c_bool
    assert "torch" not in sys.modules and take_the_place_of_cuda()
    from tests.gpu import fake_cases

    errors = {name: fake_cases.error_of(config, parts) for name, config, parts in getattr(fake_cases, cases)()}
    print(json.dumps(errors))


if __name__ == "__main__":
    main(*sys.argv[1:])
