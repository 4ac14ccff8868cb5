"""The secrets of Colab: here, the environment variables ``COLAB_SECRET_<name>``."""

import os


class SecretNotFoundError(Exception):
    """There is no secret of this name."""


def get(key: str) -> str:
    """The secret `key`."""
    try:
        return os.environ[f"COLAB_SECRET_{key}"]
    except KeyError:
        raise SecretNotFoundError(f"Secret {key} does not exist.") from None
