"""What the studio does, without its page: things, trainings, drawings and the rest as files below one folder."""

from sync_r1.apps.studio.folder import BASE, THUMBS, StudioFolder, Weights

__all__ = ["BASE", "THUMBS", "StudioFolder", "Weights"]
