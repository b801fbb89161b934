#!/usr/bin/env bash
# Put the built image into Amazon ECR and print the URI that deploy.py takes.
#
#   docker/push.sh [REPOSITORY]   [spoter]; made where it is not there: scan on push, tags that cannot be moved
#
# The tag is the version and the image's own content: the same image is pushed once, another never takes its place.
# Credentials and region come from the AWS CLI's ordinary chain (AWS_PROFILE, AWS_REGION, …). SPOTER_IMAGE_TOOL and
# SPOTER_IMAGE_NAME as in build.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=docker/tool.sh
. docker/tool.sh

repository=${1:-spoter}
[ $# -le 1 ] || fail "found $# arguments, expected at most one: the name of a repository"
command -v aws >/dev/null || fail "found no aws: install the AWS CLI"
tool=$(find_tool)
image=$(image_name)
id=$("$tool" image inspect --format '{{.Id}}' "$image" 2>/dev/null) || fail "found no image $image: run docker/build.sh"
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
[ -n "$region" ] || fail "found no AWS region: set AWS_REGION, or run aws configure"
export AWS_REGION=$region AWS_DEFAULT_REGION=$region AWS_PAGER=

words=$(mktemp)
trap 'rm -f "$words"' EXIT
# Run the AWS CLI; its complaint goes to $words.
ask() { aws "$@" --output text 2>"$words"; }
complaint() { grep -v '^$' "$words" | tail -n 1; }

ask sts get-caller-identity --query Account >/dev/null || fail "AWS knows no one here ($(complaint)): run aws configure"
if ! uri=$(ask ecr describe-repositories --repository-names "$repository" --query 'repositories[0].repositoryUri'); then
    grep -q RepositoryNotFoundException "$words" || fail "ecr describe-repositories: $(complaint)" 1
    uri=$(ask ecr create-repository --repository-name "$repository" --image-tag-mutability IMMUTABLE \
        --image-scanning-configuration scanOnPush=true --query repository.repositoryUri) ||
        fail "ecr create-repository: $(complaint)" 1
    echo "made the repository $uri"
fi
id=${id#sha256:}
tag=$(version)-${id:0:12}
if ask ecr describe-images --repository-name "$repository" --image-ids "imageTag=$tag" >/dev/null; then
    echo "$uri:$tag is there already"
else
    grep -q ImageNotFoundException "$words" || fail "ecr describe-images: $(complaint)" 1
    password=$(ask ecr get-login-password) || fail "ecr get-login-password: $(complaint)" 1
    "$tool" login --username AWS --password-stdin "${uri%%/*}" <<<"$password"
    "$tool" tag "$image" "$uri:$tag"
    "$tool" push "$uri:$tag"
fi
echo "python deploy.py --image-uri $uri:$tag"
