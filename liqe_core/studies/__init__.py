"""Studies of trained models: each of the paper's claims is a computation on tables.

Read `finished` (reads run folders), `intervals` (confidence intervals) and `ablations` first, then
`paper_tables`, `paper_check` (published weights), `scorers`, `gmad` and `realign`. `open_benchmark` tests the
first claim on public data and compares with `baselines`; `open_tables` makes its tables. `scene_checks` tests
whether a model recognizes scenes or properties of their source. `half_precision` finds the weights that
cannot move in half precision. `explorer` computes the answers for one image at several levels of distortion.

May use the method, `data`, `evaluation` and `training`.
"""
