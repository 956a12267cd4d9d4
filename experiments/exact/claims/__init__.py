"""What the rows of the exact experiments decide: one module an experiment, which `run` never imports."""
