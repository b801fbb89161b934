"""Very many clips: `spoter predict … --out`, and the way through SageMaker's batch jobs and through Ray.

`pieces` finds what there is to answer and cuts it into parts, `reading` reads a clip, `answering` answers a part as a
server would. Parts are answered by processes of this machine (`workers`) or of Ray's (`ray_data`), and kept, each
whole, by `run`, so that a run which was stopped goes on. `predicting` joins them; `packing` writes and reads the files
of a batch job; `command` is what the command line calls. How to use it: docs/bulk.md.
"""
