"""Fine-tuning jobs: recipes as data, and what runs, describes and tries them."""
