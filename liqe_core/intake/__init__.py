"""What goes in and out beside the method: files from elsewhere, levels of images, progress.

Read `transfers` (files of the Hugging Face hub or at an address, checked by SHA-256), `levels` (from whatever
an image stores to 8-bit RGB), `progress` (a bar in a terminal, elsewhere a line now and then), `stopping`
(a signal becomes one exception) and `settings` (what a value may be).

May use `files`.
"""
