"""Datasets: manifests, labels and splits, downloads and checks, and packed images for training.

Read `manifests` and `manifest_fields` (the description of a dataset) first. For labels, read `splits` (with
near-duplicates across splits), `tables`, `released_labels`, `label_forms` and `labels`. For images, read
`presence` (missing images), `verification` (the state of a dataset), `archives`, `fetch` and `audits`.
`store` decodes images once, and `labelled` joins labels and images. `distortions` and `mini` make the dataset
that needs no download; `distorted` makes one from photographs that anyone may download.

This package may use the method, but not its models: no module here loads a tower.
"""
