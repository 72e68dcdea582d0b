"""Where a model's folder is that a command names."""

from pathlib import Path

from cli.exits import CommandFailed, Exit


def model_folder(model: str) -> Path:
    """A path when it is one; a bare name may also be that of a model in MODELS_PATH."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from fleet.settings import Settings

    models_path = Settings().models_path
    if Path(model).name == model and (models_path / model).is_dir():
        return models_path / model
    raise CommandFailed(
        f"there is no folder {model!r}, neither here nor in {models_path}",
        code="model-not-found",
        exit_code=Exit.NOT_FOUND,
        hint="give the folder that holds model.yaml, or set MODELS_PATH",
    )
