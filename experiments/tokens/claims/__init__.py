"""What the rows of the token experiments decide: one module an experiment, which `run` never imports."""
