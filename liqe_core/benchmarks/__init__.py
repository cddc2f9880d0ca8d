"""What it costs in time and memory, and the least it could.

`steps` is about training and its batches, `scoring` about scores from files, beside pyiqa.

May use the method, `data`, `evaluation` and `training`.
"""
