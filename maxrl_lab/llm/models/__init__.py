"""Language models: loading them, drawing their answers, evaluating them."""
