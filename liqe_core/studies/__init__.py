"""What is asked of trained models: the paper's claims, each as a computation on tables.

Read `finished` (run folders, read) and `ablations` first; then `published` and `paper_tables`, `unseen`,
`scorers` and `gmad`, `planted` and `realign`.

May use the method, `data`, `evaluation` and `training`.
"""
