"""Rows in, picture and table out; nothing here trains. The folders mirror `experiments`."""
