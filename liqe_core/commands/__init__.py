"""The command line interface ``liqe``, including sweeps and the execution of notebooks.

Read `main` first, then the module of a command: `score`, `data`, `train` (with ``liqe check``), `sweep`,
`notebooks` (with ``liqe pages``, the site) and `figure`. `options` defines the options of all commands, and
`parameters` the parameters of the notebooks. `score_engine` scores images in shards, in this process or on
workers. `score_files` selects the images and writes the table, also as an HTML page.

This package may use all others.
"""
