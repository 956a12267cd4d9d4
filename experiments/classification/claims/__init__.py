"""What the rows of the classification experiments decide: one module an experiment, which `run` never imports."""
