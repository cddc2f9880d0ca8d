"""Input and output below the method: downloads, pixel levels, progress and signals.

The modules are `transfers` (downloads from the Hugging Face hub or a URL, checked by SHA-256), `levels` (from
any pixel format to 8-bit RGB), `progress` (progress bars in a terminal, lines elsewhere), `stopping` (signals
as exceptions) and `settings` (validation of settings).

May import `files`.
"""
