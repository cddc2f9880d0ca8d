"""The page of ``liqe score --html``, clicked."""

import numpy as np
import pandas as pd

from liqe_core.commands.score_files import write_page
from liqe_core.images import read_image

STATE = """[...document.querySelectorAll("tbody tr")].map(row => row.cells[1].dataset.v).join("") + " "
+ [...document.querySelectorAll("th[aria-sort]")].map(head => head.className + " " + head.ariaSort)"""


def test_a_click_sorts_and_a_second_one_turns_it_round(chromium, tmp_path):
    table = pd.DataFrame({"image": ["b", "A", "c", "a"], "quality": [10.0, np.nan, 9.0, 1.0]})
    write_page(tmp_path / "page.html", table, read_image)
    with chromium.new_page() as tab:
        tab.goto((tmp_path / "page.html").as_uri())
        states = [tab.evaluate(STATE)]
        for head in ("quality", "quality", "image", "image", "quality"):
            tab.locator(f"th.{head} button").click()
            states.append(tab.evaluate(STATE))
    up, down = "acbA quality ascending", "bcaA quality descending"
    assert states == [up, down, up, "aAbc image ascending", "cbAa image descending", up]
