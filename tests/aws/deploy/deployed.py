"""Create a deployment in the account with the requests of `spoter deploy`, without its slow steps."""

from __future__ import annotations

from urllib.parse import urlencode

from spoter.aws.deploy import autoscale, requests
from spoter.aws.deploy.account import Account
from tests.aws.deploy.cloud import ACCOUNT, REGION, Cloud
from tests.aws.deploy.deploying import BUCKET, make_settings

ROLE = f"arn:aws:iam::{ACCOUNT}:role/spoter-endpoint"


def create_deployment(cloud: Cloud, **fields: object) -> str:
    """Create bucket, archive, model, configuration, endpoint and scaling; return the configuration's name.

    The archive is a few bytes, because it is never unpacked. The bucket is created and tagged if it is missing.
    """
    settings = make_settings(**fields)
    s3, sagemaker = cloud.client("s3"), cloud.client("sagemaker")
    bucket, key = settings.bucket or BUCKET, requests.archive_key(settings, "0" * 64)
    if bucket not in [item["Name"] for item in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": requests.tag_list(settings)})
    s3.put_object(Bucket=bucket, Key=key, Body=b"archive", Tagging=urlencode(requests.tags(settings)))
    definition = requests.container(settings, REGION, f"s3://{bucket}/{key}")
    model = requests.model_request(settings, ROLE, definition)
    config = requests.config_request(settings, model["ModelName"], bucket)
    sagemaker.create_model(**model)
    sagemaker.create_endpoint_config(**config)
    sagemaker.create_endpoint(**requests.endpoint_request(settings, config["EndpointConfigName"]))
    while sagemaker.describe_endpoint(EndpointName=settings.name)["EndpointStatus"] == "Creating":
        pass  # each query advances the status
    autoscale.apply_scaling(settings, Account(settings))
    return config["EndpointConfigName"]
