"""A package that adds to anamorph from outside."""
