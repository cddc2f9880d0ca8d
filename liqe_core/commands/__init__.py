"""The command ``liqe``: what a user types, and what runs notebooks and sweeps for them.

Read `main` first, then the module of a command: `score`, `data`, `check`, `train`, `sweep`, `notebooks`,
`figure`, `pages` (the site of what notebooks show). `options` is what several commands read alike,
`parameters` what those of a notebook may be, and `cluster` connects to Dask's workers; of a sweep, `grid`
says which runs it has and `cell` is what a worker does with one, without torch. Of scoring, `score_engine`
scores images shard by shard, here or on workers, and `score_files` says which images and writes the table,
also as a page.

May use everything.
"""
