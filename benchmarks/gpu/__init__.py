"""What is measured and trained in the few minutes in which a GPU is at hand: ``benchmarks/gpu.sh``."""
