"""Benchmarks of time and memory, with lower bounds.

`steps` measures training and its batches; `scoring` measures scoring from files and compares it with pyiqa.

May use the method, `data`, `evaluation` and `training`.
"""
