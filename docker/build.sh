#!/usr/bin/env bash
# Build the image spoter:VERSION with docker, or with podman where no Docker daemon answers.
#
#   docker/build.sh [OPTION…]     options go to `docker build` as they are
#
#   SPOTER_IMAGE_TOOL     docker or podman            [the one that answers]
#   SPOTER_IMAGE_BASE     Debian 12 by another name   [debian:bookworm-slim]
#   SPOTER_IMAGE_NAME     the image's name            [spoter:VERSION]
#   PIP_EXTRA_INDEX_URL   index of CPU builds of torch; without it PyPI's torch has CUDA, and the build says so
#   SPOTER_PIP_CONF       a pip.conf to build with, and
#   SPOTER_CA             certificates of a proxy of one's own: neither gets into the image
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=docker/tool.sh
. docker/tool.sh

tool=$(find_tool)
arguments=(--file docker/Dockerfile --tag "$(image_name)")
if [ -n "${SPOTER_IMAGE_BASE:-}" ]; then arguments+=(--build-arg "BASE=$SPOTER_IMAGE_BASE"); fi
if [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then arguments+=(--build-arg "PIP_EXTRA_INDEX_URL=$PIP_EXTRA_INDEX_URL"); fi
if [ -n "${SPOTER_PIP_CONF:-}" ]; then arguments+=(--secret "id=pipconf,src=$SPOTER_PIP_CONF"); fi
if [ -n "${SPOTER_CA:-}" ]; then arguments+=(--secret "id=ca,src=$SPOTER_CA"); fi
# Podman's own format has no health check.
if [ "$tool" = podman ]; then arguments+=(--format docker); else export DOCKER_BUILDKIT=1; fi

"$tool" build "${arguments[@]}" "$@" .
printf 'built %s, %s MB\n' "$(image_name)" "$(($("$tool" image inspect --format '{{.Size}}' "$(image_name)") / 1000000))"
