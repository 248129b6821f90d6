"""How well two images match."""
