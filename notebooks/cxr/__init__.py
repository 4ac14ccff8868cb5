"""What the notebooks repeat: data, the chain of artifacts, images, training, evaluation, figures.

The package lies beside the notebooks, so ``from cxr import ...`` works wherever a notebook runs,
with nothing to install and no path to set.
"""
