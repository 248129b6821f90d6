"""Every frame of a series registered to one of them or to their mean, smooth in time."""
