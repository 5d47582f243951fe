# Sourced by the tests of real engines: how a result is told, the image that all of them use, the runtime under test.
# Runs inside hack/peers/room, where nothing has to be cleaned up and nothing reaches the host.
set -uo pipefail

ENGINE=${0##*/}
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
case ${RT_UNDER_TEST:-rt} in
    rt) RUNTIME=$REPO/target/bin/rt ;;
    runc | crun) RUNTIME=$REPO/target/peers/bin/$RT_UNDER_TEST ;;
    *) RUNTIME=$RT_UNDER_TEST ;;
esac
[ -d /sys/fs/cgroup/room ] || [ -e /payload/job ] || [ "${RT_ROOM_CGROUPS-}" = host ] || { echo "$0: runs in hack/peers/room or hack/vm only"; exit 2; }
[ -x "$RUNTIME" ] || { echo "$0: no $RUNTIME: run hack/build"; exit 2; }

IMAGE=/tmp/image # its root filesystem, as a folder
failures=0

# holds NAME CODE PATTERN COMMAND…: the exit code of the command (or function) is CODE, and all it prints is like PATTERN (a shell pattern).
holds() {
    local name=$1 code=$2 pattern=$3 got status=0
    shift 3
    local limit=(timeout "${LIMIT:-60}")
    ! declare -F "$1" >/dev/null || limit=()
    got=$(${limit[@]+"${limit[@]}"} "$@" 2>&1 </dev/null | tr '\0' ' ') || status=$?
    # shellcheck disable=SC2053
    if [ "$status" = "$code" ] && [[ $got == $pattern ]]; then
        echo "PASS $ENGINE::$name"
    else
        failures=$((failures + 1))
        echo "FAIL $ENGINE::$name: exit $status instead of $code, or not like '$pattern': $(tr '\n' ' ' <<<"$got" | tail -c 600)"
    fi
}

# except RUNTIME REASON TEST…: a test that this reference is known to fail.
except() {
    if [ "$(basename "$RUNTIME")" = "$1" ]; then
        echo "SKIP $ENGINE::$4: $1 differs: $2"
    else
        "${@:3}"
    fi
}

# The guest of hack/vm has no processor of its own: what takes a second elsewhere takes several.
SLOWER=1
[ ! -e /payload/job ] || SLOWER=4

# until_true COMMAND…: asks again until the command succeeds, for ten seconds.
until_true() {
    local _
    for _ in $(seq "$((${PATIENCE:-200} * SLOWER))"); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    return 1
}

# Nothing of a container may be left once its engine has removed it.
leaves_nothing() {
    until_true no_runtime_left
    holds "leaves_no_process_of_the_runtime" 1 "" pgrep -ax "$(basename "$RUNTIME")"
    holds "leaves_no_cgroup" 0 "" find /sys/fs/cgroup -mindepth 2 -type d "$@" -not -path '/sys/fs/cgroup/room*'
}
no_runtime_left() { ! pgrep -x "$(basename "$RUNTIME")"; }

make_image() {
    local applet
    mkdir -p $IMAGE/{bin,etc,tmp,proc,sys,dev,data}
    cp /bin/busybox $IMAGE/bin/
    for applet in $(/bin/busybox --list); do ln -s busybox "$IMAGE/bin/$applet" 2>/dev/null; done
    printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n' >$IMAGE/etc/passwd
    printf 'root:x:0:\nuser:x:1000:\n' >$IMAGE/etc/group
}

# archive NAME: the image as an OCI archive, /tmp/image.tar, which containerd takes without a registry.
archive() {
    local layer config manifest
    mkdir -p /tmp/oci/blobs/sha256
    cd /tmp/oci || exit 2
    tar -C $IMAGE -cf layer .
    layer=$(blob layer)
    printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["%s"]}}' \
        "$(sed 's/.*"digest":"\([^"]*\)".*/\1/' <<<"$layer")" >config
    config=$(blob config)
    printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s",%s},"layers":[{"mediaType":"%s",%s}]}' \
        application/vnd.oci.image.manifest.v1+json application/vnd.oci.image.config.v1+json "$config" \
        application/vnd.oci.image.layer.v1.tar "$layer" >manifest
    manifest=$(blob manifest)
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s,"annotations":{"io.containerd.image.name":"%s"}}]}' \
        application/vnd.oci.image.manifest.v1+json "$manifest" "$1" >index.json
    echo '{"imageLayoutVersion":"1.0.0"}' >oci-layout
    tar -cf /tmp/image.tar .
    cd /
}

# blob FILE: puts it where its digest says and prints `"digest":…,"size":…`.
blob() {
    local digest size
    digest=$(sha256sum "$1" | cut -d ' ' -f 1)
    size=$(stat -c %s "$1")
    mv "$1" "blobs/sha256/$digest"
    printf '"digest":"sha256:%s","size":%s' "$digest" "$size"
}

# Has the kernel here what limits need? Natively these machines have cgroup v2 without memory, cpu and pids.
has_controllers() { grep -qw memory /sys/fs/cgroup/cgroup.controllers && grep -qw pids /sys/fs/cgroup/cgroup.controllers; }

closing() { [ "$failures" = 0 ]; exit $?; }
make_image
