"""Operations counted by hand."""

from liqe_core.benchmarks.arithmetic import product_rate, step_operations

TINY = {
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 10, "layers": 2},
    "text_cfg": {"width": 6, "layers": 3},
}


def test_operations_are_counted_by_hand():
    """2 pictures x 3 crops of 4 patches and a class token; 7 sequences of 11 text tokens."""
    patches = 2 * (6 * 4) * (3 * 8 * 8) * 10
    # a token: q, k, v, out of 10 x 10, 10 -> 40 -> 10; scores and sums over 5 tokens
    image = 2 * (6 * 5) * 2 * (4 * 100 + 2 * 400 + 2 * 5 * 10)
    text = 2 * (7 * 11) * 3 * (4 * 36 + 2 * 6 * 24 + 2 * 11 * 6)
    assert step_operations(TINY, 2, 3, (7, 11), passes=1) == patches + image + text
    assert step_operations(TINY, 2, 3, (7, 11)) == 3 * (patches + image + text)
    assert step_operations(TINY, 2, 3, (7, 11), passes=4) == 3 * patches + 4 * (image + text)
    assert product_rate(seconds=0.0) > 1e8
