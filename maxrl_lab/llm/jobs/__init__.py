"""Fine-tuning jobs: recipes as data, and the modules that run, describe and try them."""
