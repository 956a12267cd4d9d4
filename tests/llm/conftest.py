"""The Hugging Face hub is not asked, and TRL does not warn of the experimental hook by which tests give it answers.

Both are read when the packages are imported, which is when the test files are collected.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
