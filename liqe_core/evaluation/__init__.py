"""Evaluation of a model on labelled images: predictions and their agreement with human scores.

Read `measuring` first. `distributed` shares the work among several processes.

May import the method and `data`.
"""
