"""Every figure, from data frames and plain keywords; none of them knows what made the numbers.

Read `style` first (style sheets, colours, axes), then `saving`: what a figure was drawn from stands beside
it, and draws it again. The others are named after what they show: `concepts`, `answers` of a model,
`data_sets`, `training`, `ablations`, `results` of models, `gmad`, `realign`, `half_precision`. Each function
returns a matplotlib Figure; `explorer` has widgets as well, and the figure that stands for them where nobody
moves them.

May use NumPy, pandas, matplotlib, and of this package `files` and `images` alone.
"""
