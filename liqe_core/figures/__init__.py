"""All figures, drawn from data frames and plain keywords, independently of the code that made the numbers.

Read `style` first (style sheets, colours, axes), then `saving` (saves the data of a figure with it, and
redraws it). The other modules are named after their subject: `concepts`, `answers` of a model, `data_sets`,
`training`, `ablations`, `results` of models, `gmad`, `realign`, `half_precision`. Each function returns a
matplotlib Figure; `explorer` also has widgets, and a static figure for notebooks that run without a user.

May use NumPy, pandas, matplotlib, and from this package only `files` and `images`.
"""
