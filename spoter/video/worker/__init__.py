"""What runs in the child process: MediaPipe Holistic over one video. It imports nothing of the rest of spoter.

Started as ``python -I spoter/video/worker`` by the interpreter of `spoter.video.environment`, which has NumPy, OpenCV
and MediaPipe and need have nothing else; so these modules import one another by their bare names. Only
`containers.check` runs in the parent, before it starts a child.
"""
