"""Every figure, from data frames and arrays; none of them knows what made the numbers.

Read `style` first: the one style file, colours, axes, and how a figure is saved. The others are named after
what they show: `concepts`, `answers` of a model, `data_sets`, `training`, `ablations`, `paper_tables`,
`pictures` side by side, `gmad`, `realign`, `benchmarks`, `open_benchmark`, `half_precision`. Each function
returns a matplotlib Figure; `explorer` has widgets as well, and the figure that stands for them where nobody
moves them.

May use NumPy, pandas, matplotlib, and of this package `files` and `images` alone.
"""
