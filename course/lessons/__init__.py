"""Five lessons as marimo notebooks: plain Python, opened by `maxrl-lab lesson NUMBER`, run whole by the tests."""
