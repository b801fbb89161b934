"""AWS as one set of credentials sees it: every call of deploy.py goes through `Account`, which can just show it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import botocore.exceptions
from botocore.config import Config

from spoter.aws.deploy.settings import DeployError, Settings

# What services answer where something is not there. SageMaker has no code for it, only words.
_ABSENT_CODES = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchEntity", "NoSuchTagSet", "ResourceNotFound"}
_ABSENT_CODES |= {"ResourceNotFoundException", "RepositoryNotFoundException", "ImageNotFoundException"}
_ABSENT_CODES |= {"ObjectNotFoundException", "NoSuchResourceException"}
_UNTOLD_CODE = "ValidationException"
_ABSENT_WORDS = ("could not find", "cannot find", "does not exist", "not found")

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}

# Stands for the account's number where nobody is asked for it.
DRY_ACCOUNT = "ACCOUNT"


class CallError(DeployError):
    """AWS refused a call.

    Attributes
    ----------
    code : str
        AWS's own, such as ``ResourceLimitExceeded``.
    reason : str
        AWS's own words.
    answer : dict
        All of AWS's answer; that of ModelError holds the container's.
    """

    status = 1

    def __init__(self, operation: str, code: str, reason: str, answer: dict | None = None):
        hint = ": the deploying user lacks this permission, see aws/iam/" if code in _DENIED else ""
        super().__init__(f"{operation}: {code}: {reason}{hint}")
        self.code = code
        self.reason = reason
        self.answer = answer or {}

    @property
    def denied(self) -> bool:
        """Whether the caller lacks a permission."""
        return self.code in _DENIED

    @property
    def absent(self) -> bool:
        """Whether AWS says that what the call was about is not there."""
        if self.code == _UNTOLD_CODE:
            return any(words in self.reason.lower() for words in _ABSENT_WORDS)
        return self.code in _ABSENT_CODES


class Unreachable(DeployError):
    """A call found no way to AWS, or broke off."""

    status = 1


class Account:
    """AWS's services in one region.

    Parameters
    ----------
    settings : Settings
        Their region and profile; AWS's own configuration where they have none. AWS_REGION counts there as it does for
        AWS's other tools, though boto3 knows AWS_DEFAULT_REGION only.
    dry_run : bool
        Show every call and make none: `read` then finds nothing, as in an empty account.
    show : callable, optional
        Is given a line for each call, before it is made.

    Raises
    ------
    DeployError
        Where there is no such profile, or no region is named anywhere.
    """

    def __init__(self, settings: Settings, dry_run: bool = False, show: Callable[[str], None] | None = None):
        self.dry_run = dry_run
        self._show = show or (lambda line: None)
        self._clients: dict[str, Any] = {}
        self._number: str | None = None
        try:
            region = settings.region or os.environ.get("AWS_REGION") or None
            self.session = boto3.Session(profile_name=settings.profile, region_name=region)
            region = self.session.region_name
            self.partition: str = self.session.get_partition_for_region(region) if region else ""
        except botocore.exceptions.ProfileNotFound as error:
            raise DeployError(f"{error}; expected one of `aws configure list-profiles`") from None
        except botocore.exceptions.BotoCoreError as error:  # a region that cannot be one, a configuration that is none
            raise DeployError(f"AWS's configuration: {error}") from None
        if not region:
            raise DeployError("found no region: set region in deploy.toml, or AWS_REGION, or run `aws configure`")
        self.region: str = region

    @property
    def number(self) -> str:
        """The account's number, asked for once; `DRY_ACCOUNT` in a dry run."""
        if self._number is None:
            answer = self.call("sts", "get_caller_identity")
            self._number = answer["Account"] if answer else DRY_ACCOUNT
        return self._number

    def client(self, service: str) -> Any:
        """Return boto3's client of a service, for what is no single call (transfers, paginators)."""
        if service not in self._clients:
            config = Config(retries={"mode": "standard", "max_attempts": 5}, user_agent_extra="spoter-serve")
            # In a dry run keys that are none: a search for real ones may ask the network (instance metadata, SSO).
            keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"} if self.dry_run else {}
            with translated(service, "client"):
                self._clients[service] = self.session.client(service, config=config, **keys)
        return self._clients[service]

    def read(self, service: str, operation: str, **parameters: Any) -> dict | None:
        """Make a call that changes nothing; None where what it asks for is not there, and in a dry run."""
        try:
            return self.call(service, operation, **parameters)
        except CallError as error:
            if error.absent:
                return None
            raise

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list:
        """Return what all pages of a listing hold under `key`; nothing in a dry run."""
        self._show(line(service, operation, parameters))
        if self.dry_run:
            return []
        with translated(service, operation):
            pages = self.client(service).get_paginator(operation).paginate(**parameters)
            return [item for page in pages for item in page.get(key, [])]

    def call(self, service: str, operation: str, **parameters: Any) -> dict | None:
        """Make a call, shown before; raises `CallError` where AWS refuses it. None in a dry run.

        Raises
        ------
        DeployError
            Where AWS cannot be reached or there are no credentials.
        """
        self._show(line(service, operation, parameters))
        if self.dry_run:
            return None
        with translated(service, operation):
            return getattr(self.client(service), operation)(**parameters)


@contextmanager
def translated(service: str, operation: str) -> Iterator[None]:
    """Turn botocore's errors into ours."""
    name = f"{service} {operation}"
    try:
        yield
    except botocore.exceptions.ClientError as error:
        told = error.response.get("Error", {})
        raise CallError(name, told.get("Code", "?"), told.get("Message", ""), error.response) from None
    except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
        raise DeployError(
            "found no AWS credentials: run `aws configure sso` or `aws configure`, or set AWS_PROFILE; "
            "`python deploy.py --dry-run` and `--local` need none"
        ) from None
    except (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError) as error:
        raise Unreachable(f"{name}: {error}") from None
    except (botocore.exceptions.BotoCoreError, ValueError) as error:  # ValueError: an AWS_ENDPOINT_URL that is no URL
        raise DeployError(f"{name}: {error}") from None


def line(service: str, operation: str, parameters: dict) -> str:
    """Return a call as a line of text: ``sagemaker create_model {"ModelName": …}``."""
    return f"{service} {operation} {json.dumps(parameters, default=str, ensure_ascii=False)}"
