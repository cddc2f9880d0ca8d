"""``python -m liqe_core``: the command ``liqe``, also where it is not on the path (under torchrun, say)."""

import sys

from liqe_core.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
