"""Claims, one file each, in a folder for every family; `experiments.catalogue` lists them."""
