"""The command ``liqe``: what a user types, and what runs notebooks and sweeps for them.

Read `main` first, then the module of a command: `score`, `data`, `train` (and ``liqe check``), `sweep`,
`notebooks` (and ``liqe pages``, the site), `figure`. `options` has every command's options,
`parameters` what those of a notebook may be. Of scoring, `score_engine` scores images shard by shard, here or
on workers, and `score_files` says which images and writes the table, also as a page.

May use everything.
"""
