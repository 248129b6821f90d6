"""A method and a metric that anamorph finds through entry points."""
