"""Parts of the learned methods: network blocks, what a network expects of a scan, and the folder a model ships in."""
