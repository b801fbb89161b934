"""Whose a thing in the account is: what carries our tag may be used again, anything else is left alone."""

from __future__ import annotations

from typing import Any

from spoter.aws.deploy import requests
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.settings import DeployError, Settings


class NameTaken(DeployError):
    """Something of this name is there that this deployment has not made."""


def check_ours(settings: Settings, account: Account, kind: str, found: dict[str, Any]) -> dict[str, str]:
    """Make sure that a thing of SageMaker's is of this deployment, and return its tags.

    Parameters
    ----------
    settings : Settings
    account : Account
    kind : str
        ``Model``, ``EndpointConfig`` or ``Endpoint``.
    found : dict
        SageMaker's description of it.

    Raises
    ------
    NameTaken
        Where it is someone else's; the text says whose, as far as its tags do.
    """
    arn = found[f"{kind}Arn"]
    tags = {tag["Key"]: tag["Value"] for tag in account.pages("sagemaker", "list_tags", "Tags", ResourceArn=arn)}
    if tags.get(requests.TAG) != settings.name:
        told = ", ".join(f"{key}={value}" for key, value in sorted(tags.items())) or "none"
        raise NameTaken(
            f"{arn} is there and not of this deployment: it lacks the tag {requests.TAG}={settings.name}; made on "
            f"{found['CreationTime']:%Y-%m-%d}, tags: {told}. It is left alone: choose another name with --name"
        )
    return tags


def keep_tags(settings: Settings, account: Account, kind: str, found: dict[str, Any]) -> None:
    """Do as `check_ours`, and give the thing the tags of the settings that it lacks."""
    there = check_ours(settings, account, kind, found)
    missing = requests.missing_tags(settings, there)
    if missing:
        tags = [{"Key": key, "Value": value} for key, value in missing.items()]
        account.call("sagemaker", "add_tags", ResourceArn=found[f"{kind}Arn"], Tags=tags)
