"""What is drawn in a figure."""

import io
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from liqe_core.figures.saving import read


def texts(figure):
    return " | ".join(t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def pixels(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    return np.asarray(Image.open(file).convert("RGB"))


def drawn(figure):
    """Return the pixels of a figure, and check that it can be saved and redrawn equally, also as SVG.

    No figure may stay open in pyplot.
    """
    shown = pixels(figure)
    with tempfile.TemporaryDirectory() as folder:
        figure.drawing.write(folder, "figure")
        redrawn = pixels(read(Path(folder, "figure.json")).draw())
    assert shown.shape == redrawn.shape and (shown == redrawn).all()
    figure.savefig(io.BytesIO(), format="svg")
    assert plt.get_fignums() == []
    return shown
