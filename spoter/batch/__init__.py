"""Large batches of clips: `spoter predict … --out`, SageMaker's batch jobs, and Ray.

`inputs` finds the clips and cuts them into shards, `reader` reads a clip, `predictor` answers a shard as a server
would. Shards run in processes of this machine (`process_pool`) or of Ray (`ray_pool`); `run` keeps each result whole,
so that a stopped run can be resumed. `output` joins the results; `sagemaker_jobs` writes and reads the files of a batch
job. docs/bulk.md is the guide.
"""
