"""Training: from a profile of settings to a run folder.

Read `profiles` (the settings), `batches`, `step` and `loop` first, in this order. `precision` and
`embeddings` (cached features of a frozen tower) support the step. `preflight` (checks before the first step),
`watch` (best epochs and divergence), `resume` (saved states) and `runs` (run folders) support the loop.
`side_by_side` starts several runs, and `prepare` loads the datasets of a profile.

May import the method, `data` and `evaluation`.
"""
