"""How smooth a field is."""
