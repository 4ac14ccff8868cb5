"""A stand-in for Colab's own package: what `cxr` asks of it, and nothing else."""
