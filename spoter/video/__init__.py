"""Landmarks of videos, from MediaPipe Holistic in a child process with its own Python environment.

`reader.read` reads one video. `extract` is behind `spoter extract`: many videos into files of the forms in `writers`,
with a `manifest` of those that are done. `environment` finds the Python of the child, `install` makes it, and `child`
talks to the process, whose code is in `worker/`.
"""
