"""A run on disk, and what experiments share while they run.

- `folder`: executes a run or reads it: its settings, tables, provenance and checkpoint lie in one folder
- `record`: what a folder says about its run, and whether that is the run which is asked for
- `replacement`: a run that `--force` makes beside the old one until it is complete
- `lock`: one process at a time in a folder
- `fingerprint`: the code that a run depends on
- `tables`: csv files that are exact to the bit
- `provenance`: command, commit, versions and device of a session
- `checkpoint`: unfinished state, read without executing anything
- `files`: files that are whole or not there, and the place of the cache
- `context`: device, checkpoint and progress bars of an experiment
- `workers`: independent training runs side by side
- `command_line`: settings as flags, and how a command ends
"""
