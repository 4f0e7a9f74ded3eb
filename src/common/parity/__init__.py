"""Oracle, twins and built-in layers held against each other."""
