"""Many scans or pairs: what a result depends on, what is finished and undamaged, how far a run is, who does it."""
