"""One module per tool: ``register(job)`` returns the displacement at every fixed voxel, (I, J, K, 3), LPS mm."""
