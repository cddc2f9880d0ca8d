"""Training: from named settings to a folder that holds a run.

Read `profiles` (the settings), `batches`, `step` and `loop` first, in that order: they are the training. The
step has `precision`, a frozen tower `embeddings` that are kept; the loop has `watch` (which epoch is best,
what has gone wrong), `preflight` (what would), `resume` (a state on disk) and `runs` (the folder).
`side_by_side` starts several runs, and `prepare` finds what a profile needs.

May use the method, `data` and `evaluation`.
"""
