"""What a run takes from the machine: devices, threads, memory, compiled kernels."""
