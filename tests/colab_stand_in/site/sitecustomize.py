"""Sends the child processes of `cxr.download` to the stand-in for Kaggle."""

import os
import sys

if "_child" in " ".join(sys.orig_argv) and os.environ.get("CXR_STAND_IN"):
    import kagglesdk.kaggle_env as env

    env._env_to_endpoint[env.KaggleEnv.PROD] = os.environ["CXR_STAND_IN"]
