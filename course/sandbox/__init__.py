"""Where a student's code runs: `child` is its process, `process` its other end, `answers` a folder of answers."""
