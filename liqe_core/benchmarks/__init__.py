"""What it costs in time and memory, and the least it could.

`steps` is about training, `reading` about images and stores, `scoring` about scores from files, beside pyiqa.

May use the method, `data`, `evaluation` and `training`.
"""
