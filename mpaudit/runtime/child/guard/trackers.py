"""Experiment trackers write into the run's folder and send nothing: the user's accounts see no run of mpaudit."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..patches import Patches

FOLDER = "trackers"


def settings(folder: str) -> dict[str, str]:
    """Environment variables that put each tracker offline. `folder` is that of the run."""
    place = os.path.join(folder, FOLDER)
    return {
        "WANDB_MODE": "offline",
        "WANDB_DIR": place,
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_TRACKING_URI": f"file:{place}/mlruns",
        "MLFLOW_REGISTRY_URI": f"file:{place}/mlruns",
        "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3.16 raises without it where runs are kept in files
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "COMET_MODE": "disabled",
        "COMET_START_ONLINE": "0",
        "COMET_OFFLINE_DIRECTORY": place,
        "NEPTUNE_MODE": "offline",
        "CLEARML_OFFLINE_MODE": "1",
        "SWANLAB_MODE": "local",
        "TRACKIO_DIR": place,
    }


def install(folder: str, patches: Patches) -> dict[str, Callable[[ModuleType], None]]:
    """Sets the environment. What a script asks for in its own code (`wandb.init(mode="online")`) is set back by the
    functions that this gives, to be called when the modules are imported."""
    place = os.path.join(folder, FOLDER)
    os.makedirs(place, exist_ok=True)
    for name, value in settings(folder).items():
        os.environ[name] = value
        patches.note(f"os.environ[{name!r}]")

    def wandb(module: Any) -> None:
        _force(module, "init", patches, mode="offline", dir=place)

    def mlflow(module: Any) -> None:
        uri = os.environ["MLFLOW_TRACKING_URI"]
        for name in ("set_tracking_uri", "set_registry_uri"):
            patches.replace(module, name, lambda original: lambda *args, **kwargs: original(uri))

    def events(module: Any) -> None:
        # the writer of TensorBoard opens its files by TensorFlow where that is installed, past Python
        writer = module.EventFileWriter

        def init(original: Callable[..., None]) -> Callable[..., None]:
            @functools.wraps(original)
            def wrapper(self: Any, logdir: Any, *args: Any, **kwargs: Any) -> None:
                original(self, _inside(place, logdir), *args, **kwargs)

            return wrapper

        patches.replace(writer, "__init__", init)

    def comet(module: Any) -> None:
        _force(module, "Experiment", patches, disabled=True)

    return {
        "wandb": wandb,
        "mlflow": mlflow,
        "comet_ml": comet,
        "tensorboard.summary.writer.event_file_writer": events,
        "tensorboardX.event_file_writer": events,
    }


def _inside(place: str, logdir: Any) -> str:
    """`logdir` under the folder for trackers, with the path it has from the root."""
    name = os.path.abspath(os.fsdecode(logdir))
    if name.startswith(place + os.sep):
        return name
    return os.path.join(place, "tensorboard", name.lstrip(os.sep))


def _force(module: Any, name: str, patches: Patches, **settings: Any) -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **(kwargs | settings))

        return wrapper

    patches.replace(module, name, wrap)
