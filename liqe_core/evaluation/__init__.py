"""A model on labelled images: what it predicts, and how well that agrees with people.

Read `measuring` first; `distributed` is how several processes share the work.

May use the method and `data`.
"""
