"""What a stand-in machine has instead of the world outside: servers for Kaggle and for weights, a GPU's decision.

``CXR_STAND_IN``          address that answers for Kaggle, in the child processes of `cxr.download`
``CXR_STAND_IN_WEIGHTS``  address that answers for the place from which Keras downloads weights
``CXR_STAND_IN_GPU``      a file: Keras decides on compiling by XLA as it does where there is a GPU, and each yes is a
                          line in this file
"""

import importlib.abc
import os
import sys

if "_child" in " ".join(sys.orig_argv) and os.environ.get("CXR_STAND_IN"):
    import kagglesdk.kaggle_env as env

    env._env_to_endpoint[env.KaggleEnv.PROD] = os.environ["CXR_STAND_IN"]


def redirect(file_utils):
    """Keras downloads from the stand-in."""
    real = file_utils.urlretrieve
    file_utils.urlretrieve = lambda url, *rest: real(
        url.replace("https://storage.googleapis.com", os.environ["CXR_STAND_IN_WEIGHTS"]), *rest
    )


def decide(trainer):
    """``jit_compile="auto"`` means what it means beside a GPU: yes, wherever the layers allow it."""

    def resolve(model):
        decision = trainer.model_supports_jit(model)
        with open(os.environ["CXR_STAND_IN_GPU"], "a", encoding="utf-8") as note:
            note.write(f"{model.name}\n" * decision)
        return decision

    trainer.Trainer._resolve_auto_jit_compile = resolve


class After(importlib.abc.MetaPathFinder):
    """Calls a function on a module as soon as it has been imported."""

    def __init__(self, functions):
        self.functions = functions

    def find_spec(self, name, path, target=None):
        if name not in self.functions:
            return None
        spec = next(
            filter(None, (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self))
        )
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), self.functions[name](module))
        return spec


sys.meta_path.insert(
    0,
    After(
        {
            **({"keras.src.utils.file_utils": redirect} if os.environ.get("CXR_STAND_IN_WEIGHTS") else {}),
            **({"keras.src.trainers.trainer": decide} if os.environ.get("CXR_STAND_IN_GPU") else {}),
        }
    ),
)
