"""What the rows of the navigation experiments decide: one module an experiment, which `run` never imports."""
