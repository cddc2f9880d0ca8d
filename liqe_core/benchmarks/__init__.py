"""What it costs in time and memory, and the least it could.

Read `arithmetic` (the least) first; then `training` (a step), `store` (reading pictures), `scoring` (from
files, beside pyiqa) and `protocol` (all the rest of the paper's protocol).

May use the method, `data`, `evaluation` and `training`.
"""
