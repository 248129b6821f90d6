"""Other registration tools and this one on the same pairs, judged by one independent evaluation."""
