"""``python -m liqe_core``: the command ``liqe``, also where it is not on the path (under torchrun, say)."""

from liqe_core.commands.main import main, run

__all__ = ["main"]

if __name__ == "__main__":
    run()
