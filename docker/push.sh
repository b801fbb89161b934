#!/usr/bin/env bash
# Push the built image to Amazon ECR and print the command that deploys it.
#
#   docker/push.sh [REPOSITORY]   [default: spoter]; created if missing, with scan on push and immutable tags
#
# The tag consists of the version and a hash of the image: the same image is pushed once, and never replaced by another.
# Credentials and region come from the AWS CLI's default chain (AWS_PROFILE, AWS_REGION, …). SPOTER_IMAGE_TOOL and
# SPOTER_IMAGE_NAME are those of build.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=docker/tool.sh
. docker/tool.sh

repository=${1:-spoter}
[ $# -le 1 ] || fail "found $# arguments, expected at most one: the name of the repository"
command -v aws >/dev/null || fail "found no command aws: install the AWS CLI"
tool=$(find_tool)
image=$(image_name)
id=$("$tool" image inspect --format '{{.Id}}' "$image" 2>/dev/null) || fail "found no image $image: build it with docker/build.sh"
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
[ -n "$region" ] || fail "found no AWS region: set AWS_REGION, or run aws configure"
export AWS_REGION=$region AWS_DEFAULT_REGION=$region AWS_PAGER=

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
# Run the AWS CLI; its errors go to the file $errors.
call_aws() { aws "$@" --output text 2>"$errors"; }
last_error() { grep -v '^$' "$errors" | tail -n 1; }

call_aws sts get-caller-identity --query Account >/dev/null ||
    fail "found no valid AWS credentials ($(last_error)): run aws configure"
if ! uri=$(call_aws ecr describe-repositories --repository-names "$repository" \
    --query 'repositories[0].repositoryUri'); then
    grep -q RepositoryNotFoundException "$errors" || fail "ecr describe-repositories: $(last_error)" 1
    uri=$(call_aws ecr create-repository --repository-name "$repository" --image-tag-mutability IMMUTABLE \
        --image-scanning-configuration scanOnPush=true --query repository.repositoryUri) ||
        fail "ecr create-repository: $(last_error)" 1
    echo "created the repository $uri"
fi
id=${id#sha256:}
tag=$(version)-${id:0:12}
if call_aws ecr describe-images --repository-name "$repository" --image-ids "imageTag=$tag" >/dev/null; then
    echo "$uri:$tag exists already"
else
    grep -q ImageNotFoundException "$errors" || fail "ecr describe-images: $(last_error)" 1
    password=$(call_aws ecr get-login-password) || fail "ecr get-login-password: $(last_error)" 1
    "$tool" login --username AWS --password-stdin "${uri%%/*}" <<<"$password"
    "$tool" tag "$image" "$uri:$tag"
    "$tool" push "$uri:$tag"
fi
echo "spoter deploy --image-uri $uri:$tag"
