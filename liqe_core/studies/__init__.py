"""What is asked of trained models: the paper's claims, each as a computation on tables.

Read `finished` (run folders, read), `intervals` (how sure a number is) and `ablations` first; then
`paper_tables`, `paper_check` (weights of others), `scorers` and `gmad`, and `realign`. `open_benchmark` puts
the first claim to the test on data that anyone may have, beside `baselines`; its tables are made in
`open_tables`, and `scene_checks` asks whether scenes are seen or what comes with them. `half_precision` asks
which weights can move at all, `explorer` shows the answers for one image as its faults are turned up by hand.

May use the method, `data`, `evaluation` and `training`.
"""
