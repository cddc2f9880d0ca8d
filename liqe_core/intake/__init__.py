"""What goes in and out beside the method: files from elsewhere, pictures' levels, how far long work is.

Read `hub` (files of the Hugging Face hub, and the checksums by which any file is known again), `downloads`
(files at an address of their own), `levels` (from whatever a picture stores to 8-bit RGB), `progress` (a
bar in a terminal, elsewhere a line now and then) and `stopping` (a signal becomes one exception).

May use `files`.
"""
