"""A run on disk, and what experiments share while they run."""
