"""One registration from its request to its result and the folder of its files."""
