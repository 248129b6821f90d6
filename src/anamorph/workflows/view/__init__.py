"""Results looked at in a browser: one, or several of the same pair side by side."""
