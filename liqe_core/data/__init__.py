"""Datasets: what is known of them, getting and checking their images, and what a model is given of them.

Read `manifests` and `manifest_fields` (what a dataset is) first; then, for its labels, `splits` (with
near-duplicates that cross them), `tables`, `released_labels`, `label_forms`, `labels`; for its images,
`presence` (which are there), `verification` (the state of a dataset), `archives`, `fetch`, `audits`; then
`store` (images decoded once) and `labelled`, where labels and images meet. `distortions` and `mini` make the
dataset that needs no download, `distorted` one of photographs that anyone may download.

May use the method, without its models: nothing here loads a tower.
"""
