"""Calls to AWS. `spoter deploy` makes every call through `Account`, which prints it instead in a dry run."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
from botocore.config import Config

from spoter.aws.deploy.settings import DeployError, Settings

# Error codes of services for a resource that does not exist. SageMaker has no such code, only a message.
_ABSENT_CODES = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchEntity", "NoSuchTagSet", "ResourceNotFound"}
_ABSENT_CODES |= {"ResourceNotFoundException", "RepositoryNotFoundException", "ImageNotFoundException"}
_ABSENT_CODES |= {"ObjectNotFoundException", "NoSuchResourceException"}
_ABSENT_PHRASES = ("could not find", "cannot find", "does not exist", "not found")

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}

DRY_RUN_ACCOUNT = "ACCOUNT"
"""Placeholder for the account number in a dry run."""


class CallError(DeployError):
    """AWS refused a call with a code such as ``ResourceLimitExceeded`` and a reason.

    `response` is botocore's parsed response; with the code ModelError it holds the container's response.
    """

    exit_code = 1

    def __init__(self, operation: str, code: str, reason: str, response: dict[str, Any] | None = None):
        hint = ": the deploying user lacks this permission; see spoter/aws/iam/" if code in _DENIED else ""
        super().__init__(f"{operation}: {code}: {reason}{hint}")
        self.code = code
        self.reason = reason
        self.response = response or {}

    @property
    def denied(self) -> bool:
        """Whether the caller lacks a permission."""
        return self.code in _DENIED

    @property
    def absent(self) -> bool:
        """Whether the resource does not exist."""
        if self.code == "ValidationException":
            return any(phrase in self.reason.lower() for phrase in _ABSENT_PHRASES)
        return self.code in _ABSENT_CODES


class Unreachable(DeployError):
    """AWS could not be reached, or the connection broke."""

    exit_code = 1


class Account:
    """AWS's services, with the region and the profile of the settings or else of AWS's own configuration.

    AWS_REGION is used, as by AWS's other tools, though boto3 reads AWS_DEFAULT_REGION only. `show` gets one line per
    call, before the call. A dry run makes no calls: `read` then returns None, as in an empty account.

    Raises
    ------
    DeployError
        If the profile does not exist or no region is configured.
    """

    def __init__(self, settings: Settings, dry_run: bool = False, show: Callable[[str], None] | None = None):
        self.dry_run = dry_run
        self._show = show or (lambda line: None)
        self._clients: dict[str, Any] = {}
        try:
            region = settings.region or os.environ.get("AWS_REGION") or None
            self.session = boto3.Session(profile_name=settings.profile, region_name=region)
            region = self.session.region_name
            self.partition: str = self.session.get_partition_for_region(region) if region else ""
        except botocore.exceptions.ProfileNotFound as error:
            raise DeployError(f"{error}; `aws configure list-profiles` lists the profiles") from None
        except botocore.exceptions.BotoCoreError as error:  # an invalid region or configuration
            raise DeployError(f"AWS configuration: {error}") from None
        if not region:
            raise DeployError("found no AWS region: set region in deploy.toml or AWS_REGION, or run `aws configure`")
        self.region: str = region

    @cached_property
    def account_id(self) -> str:
        """The account number; `DRY_RUN_ACCOUNT` in a dry run."""
        identity = self.call("sts", "get_caller_identity")
        return str(identity["Account"]) if identity else DRY_RUN_ACCOUNT

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service, for paginators and service models."""
        if service not in self._clients:
            config = Config(retries={"mode": "standard", "max_attempts": 5}, user_agent_extra="spoter-serve")
            # Fake keys in a dry run: the search for real keys may use the network (instance metadata, SSO).
            keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"} if self.dry_run else {}
            with translate_errors(service, "client"):
                self._clients[service] = self.session.client(service, config=config, **keys)
        return self._clients[service]

    def read(self, service: str, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """Make a read-only call; return None if the resource does not exist, and in a dry run."""
        try:
            return self.call(service, operation, **parameters)
        except CallError as error:
            if error.absent:
                return None
            raise

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        """Return the items under `key` of all pages of a listing; an empty list in a dry run."""
        self._show(format_call(service, operation, parameters))
        if self.dry_run:
            return []
        with translate_errors(service, operation):
            pages = self.client(service).get_paginator(operation).paginate(**parameters)
            return [item for page in pages for item in page.get(key, [])]

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """Show a call, make it and return the response; None in a dry run.

        Raises
        ------
        DeployError
            If AWS refuses the call (`CallError`) or cannot be reached, or if there are no credentials.
        """
        self._show(format_call(service, operation, parameters))
        if self.dry_run:
            return None
        with translate_errors(service, operation):
            response: dict[str, Any] = getattr(self.client(service), operation)(**parameters)
            return response


def bucket_name(settings: Settings, account: Account) -> str:
    """Return the bucket of a deployment: from the settings, or else the SDK's default for the account and region."""
    return settings.bucket or f"sagemaker-{account.region}-{account.account_id}"


@contextmanager
def translate_errors(service: str, operation: str) -> Iterator[None]:
    """Translate botocore's errors into `DeployError` and its subclasses."""
    name = f"{service} {operation}"
    try:
        yield
    except botocore.exceptions.ClientError as error:
        details = error.response.get("Error", {})
        raise CallError(name, details.get("Code", "?"), details.get("Message", ""), error.response) from None
    except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
        raise DeployError(
            "found no AWS credentials: run `aws configure sso` or `aws configure`, or set AWS_PROFILE; "
            "`spoter deploy --dry-run` and `--local` need none"
        ) from None
    except (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError) as error:
        raise Unreachable(f"{name}: {error}") from None
    except (botocore.exceptions.BotoCoreError, ValueError) as error:  # ValueError: AWS_ENDPOINT_URL is not a URL
        raise DeployError(f"{name}: {error}") from None


def format_call(service: str, operation: str, parameters: dict[str, Any]) -> str:
    """Return a call as one line, ``sagemaker create_model {"ModelName": …}``, with the size in place of a body."""
    return f"{service} {operation} {json.dumps(parameters, default=_describe, ensure_ascii=False)}"


def _describe(value: object) -> str:
    if isinstance(value, bytes):  # never print the landmarks of a person
        return f"{len(value)} bytes"
    name = getattr(value, "name", None)  # an open file
    return f"{Path(name).name}, {Path(name).stat().st_size} bytes" if name else str(value)
