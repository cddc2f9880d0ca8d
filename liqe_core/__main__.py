"""``python -m liqe_core``: run the ``liqe`` command where it is not on the path, e.g. under torchrun."""

from liqe_core.commands.main import main, run

__all__ = ["main"]

if __name__ == "__main__":
    run()
