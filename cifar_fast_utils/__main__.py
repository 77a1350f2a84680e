"""`python -m cifar_fast_utils` is `cifar-fast`."""

import sys

from .cli import main

sys.exit(main())
