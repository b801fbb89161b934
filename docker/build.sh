#!/usr/bin/env bash
# Build the image spoter:VERSION with docker, or with podman if no Docker daemon answers.
#
#   docker/build.sh [OPTION…]     passes the options to `docker build`
#
# Environment variables:
#   SPOTER_IMAGE_TOOL     docker or podman               [default: docker if its daemon answers, else podman]
#   SPOTER_IMAGE_BASE     another image with Debian 12   [default: debian:bookworm-slim]
#   SPOTER_IMAGE_NAME     name of the image              [default: spoter:VERSION]
#   PIP_EXTRA_INDEX_URL   index of CPU builds of torch; without it PyPI's torch has CUDA, and the build stops
#   SPOTER_PIP_CONF       pip.conf for the build; it does not get into the image
#   SPOTER_CA             certificates of your proxy; they do not get into the image
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
# Podman's default format has no health check.
if [ "$tool" = podman ]; then arguments+=(--format docker); else export DOCKER_BUILDKIT=1; fi

"$tool" build "${arguments[@]}" "$@" .
printf 'built %s, %s MB\n' "$(image_name)" "$(($("$tool" image inspect --format '{{.Size}}' "$(image_name)") / 1000000))"
