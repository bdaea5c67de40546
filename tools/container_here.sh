#!/usr/bin/env bash
# Build the image of Containerfile and run its command, where no registry of images can be reached.
#
#   tools/container_here.sh FOLDER [OPTION...]    images and containers are in FOLDER; OPTIONs are those of `buildah build`
#
# Needs Debian's packages buildah, crun and debootstrap, and root. The image that Containerfile begins with is made from
# Debian's packages. Where pip is configured by files, name them: --volume /etc/pip.conf:/etc/pip.conf:ro
set -euo pipefail

if [ $# = 0 ]; then
    sed -n '2,7p' "$0"
    exit 2
fi
repository=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
options=("${@:2}")
# Plain copies and no namespaces of the network: both work inside another container too.
buildah=(buildah --storage-driver vfs --root "$folder/root" --runroot "$folder/run")
base=$(awk '$1 == "FROM" { print $2 }' "$repository/Containerfile")

if ! "${buildah[@]}" inspect --type image "$base" >/dev/null 2>&1; then
    mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\(http[^ ]*\).*/\2/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null | head -n 1 || true)
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    [ -e "$folder/debian/etc/debian_version" ] || debootstrap --variant=minbase "$release" "$folder/debian" "$mirror"
    made=$("${buildah[@]}" from scratch)
    "${buildah[@]}" add --quiet "$made" "$folder/debian" /
    "${buildah[@]}" commit --quiet --rm "$made" "$base"
fi
"${buildah[@]}" build --layers --isolation chroot --network host --pull=never "${options[@]}" \
    --file "$repository/Containerfile" --ignorefile "$repository/.containerignore" --tag firstorder "$repository"

# The image's own command, as its own user.
container=$("${buildah[@]}" from --pull=never firstorder)
trap '"${buildah[@]}" rm "$container" >/dev/null' EXIT
readarray -t command < <("${buildah[@]}" inspect --format '{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}' "$container" | sed '/^$/d')
echo "running: ${command[*]}"
"${buildah[@]}" run --isolation chroot --network none "$container" -- "${command[@]}"
