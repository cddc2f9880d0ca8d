"""Every figure, from data frames and arrays; none of them knows what made the numbers.

Read `style` first: colours, axes, and how a figure is saved. The others are named after what they show:
`concepts`, `answers` of a model, `data_sets`, `training`, `ablations`, `paper_tables`, `pictures` side by
side, `gmad`, `realign`, `benchmarks`, `open_benchmark`, `half_precision`. Each function returns a
matplotlib Figure.

May use NumPy, pandas, matplotlib, and of this package `files` and `images` alone.
"""
