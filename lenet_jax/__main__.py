"""Run the command line: python -m lenet_jax."""

import sys

from lenet_jax.cli import main

sys.exit(main())
