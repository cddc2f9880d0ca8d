"""What is drawn in a figure."""

import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image


def texts(figure):
    return " | ".join(t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def drawn(figure):
    """The figure as an array of pixels, after checking that it can be saved and that pyplot holds nothing."""
    figure.savefig(io.BytesIO(), format="svg")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    assert plt.get_fignums() == []
    return np.asarray(Image.open(file).convert("RGB"))
