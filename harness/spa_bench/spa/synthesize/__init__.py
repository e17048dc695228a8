"""Making an instruction set: a few target examples and a model in, pairs of a prompt and a completion out."""
