"""What the rows of these experiments decide: one module an experiment, which `run` never imports."""
