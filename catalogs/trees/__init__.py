"""Decision trees as data: which questions are asked of a galaxy, and what each answer leads to."""
