"""Large batches of clips: `spoter predict … --out`, SageMaker's batch jobs, and Ray.

`inputs` finds the clips and splits them into shards, `reader` reads a clip, and `predictor` computes a shard's
predictions as a server would. Shards run in processes of this machine (`process_pool`) or of Ray (`ray_pool`). `run`
saves each finished shard, so that a stopped run can be resumed. `output` joins the results; `sagemaker_jobs` writes and
reads the files of a batch job. docs/batch.md is the guide.
"""
