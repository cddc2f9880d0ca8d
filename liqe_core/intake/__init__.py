"""What comes from outside, made sure of before the method sees it.

Read `hub` (files of the Hugging Face hub, and the checksums by which any file is known again), `downloads`
(files at an address of their own) and `levels` (from whatever a picture stores to 8-bit RGB).

May use `files` and `progress`.
"""
