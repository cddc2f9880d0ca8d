"""Training: from named settings to a folder that holds a run.

Read `profiles` (the settings), `batches`, `step` and `loop` first, in that order: they are the training. The
step has `precision` and `memory`, a frozen tower `embeddings` that are kept; the loop has `schedules`,
`selection` (which weights are kept), `watch` (what has gone wrong), `preflight` (what would), `resume` (a
state on disk) and `runs` (the folder). `distributed` starts several processes, `side_by_side` several runs,
and `prepare` finds what a profile needs.

May use the method, `data` and `evaluation`.
"""
