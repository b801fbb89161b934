# Functions shared by build.sh and push.sh, which source this file.
# shellcheck shell=bash

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit "${2:-2}"
}

# Print docker if its daemon answers, else podman.
find_tool() {
    local tool
    for tool in ${SPOTER_IMAGE_TOOL:-docker podman}; do
        if command -v "$tool" >/dev/null && "$tool" info >/dev/null 2>&1; then
            printf '%s\n' "$tool"
            return
        fi
    done
    fail "${SPOTER_IMAGE_TOOL:-docker and podman} did not answer \`info\`: install one, or start Docker's daemon"
}

version() {
    sed -n 's/^__version__ = "\(.*\)"$/\1/p' spoter/__init__.py
}

image_name() {
    printf '%s\n' "${SPOTER_IMAGE_NAME:-spoter:$(version)}"
}
