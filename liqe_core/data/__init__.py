"""Data sets: what is known of them, getting and checking their pictures, and what a model is given of them.

Read `manifests` (what a data set is) first; then, for its labels, `splits`, `tables`, `released_labels`,
`label_forms`, `labels`; for its pictures, `archives`, `places` (what of an
archive goes where), `hosted`, `plans`, `fetch`, then `finding`, `journal`, `presence`, `verification`,
`duplicates`, `audits`; then `packs` and `store` (pictures decoded once), `windows` (what a frozen tower said
of them) and `labelled`, where labels and pictures meet. `distortions`, `photographs` and `mini` make the data
set that needs no download, `distorted` one of photographs that anyone may download.

May use the method, without its models: nothing here loads a tower.
"""
