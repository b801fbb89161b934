#!/usr/bin/env bash
# Make the base image, Debian 12 without documentation, on a machine without access to a registry. Needs root and
# debootstrap.
#
#   docker/debootstrap.sh FOLDER   writes FOLDER/base.tar for `podman import`
set -euo pipefail
folder=$1
root=$folder/root
trap 'rm -rf "$root"' EXIT
rm -rf "$root"
mkdir -p "$folder"
debootstrap --variant=minbase bookworm "$root"
# Security updates, as in Debian's official image.
source=$(awk '/^deb / { print $2; exit }' "$root/etc/apt/sources.list")
printf 'deb %s bookworm main\ndeb %s bookworm-updates main\ndeb %s-security bookworm-security main\n' \
    "$source" "$source" "$source" >"$root/etc/apt/sources.list"
chroot "$root" apt-get update
DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get upgrade --yes
# Remove downloads, package lists and documentation, which a container does not need.
rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*
find "$root"/usr/share/doc -type f ! -name copyright -delete
rm -rf "$root"/usr/share/{man,info,locale,lintian}/*
for pattern in /usr/share/doc/\* /usr/share/man/\* /usr/share/info/\* /usr/share/locale/\*; do
    echo "path-exclude $pattern"
done >"$root/etc/dpkg/dpkg.cfg.d/docker"
echo 'path-include /usr/share/doc/*/copyright' >>"$root/etc/dpkg/dpkg.cfg.d/docker"
cat >"$root/etc/apt/apt.conf.d/docker" <<'END'
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
END
tar --directory "$root" --create --file "$folder/base.tar" --exclude ./dev --exclude ./proc --exclude ./sys .
