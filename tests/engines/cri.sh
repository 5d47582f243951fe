# Sourced by the tests that drive a CRI server, inside hack/peers/room: the images' registry, the server under test
# (CRI_UNDER_TEST: rt-cri, or containerd as the reference), crictl. Their state is the room's, and goes with it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PEERS=$REPO/target/peers
SERVER=${CRI_UNDER_TEST:-rt-cri}
SOCKET=/run/rt/cri.sock
[ "$SERVER" != containerd ] || SOCKET=/run/containerd/containerd.sock
LOG=/tmp/server.log
CERTS=/tmp/certs.d # hosts.toml directories

# containerd has our shim as the runtime handler `rt`; CONTAINERD_RUNTIME=rt makes it the default.
# Every registry that the tests name is this one.
start_registry() {
    local host
    for host in registry.k8s.io k8s.gcr.io gcr.io docker.io; do
        mkdir -p "$CERTS/$host"
        printf 'server = "https://%s"\n[host."http://127.0.0.1:5000"]\ncapabilities = ["pull", "resolve"]\n' "$host" >"$CERTS/$host/hosts.toml"
    done
    cat >/tmp/registry.yml <<-END
	version: 0.1
	log: {level: warn}
	storage:
	  filesystem: {rootdirectory: $PEERS/registry}
	  maintenance: {readonly: {enabled: true}}
	http: {addr: "127.0.0.1:5000"}
	END
    "$PEERS/bin/docker-registry" serve /tmp/registry.yml >/tmp/registry.log 2>&1 &
    PATIENCE=600 until_true busybox wget -q -O /dev/null http://127.0.0.1:5000/v2/ || stop_with /tmp/registry.log "the registry does not answer"
}

# start_server: returns when it answers. `NETWORK=cni` gives it a network configuration and plugins; without, rt-cri has
# its own network. MORE_CONFIG: more of rt-cri's configuration; MORE_CONTAINERD: more of containerd's for its CRI.
start_server() {
    mkdir -p /tmp/net.d
    if [ "$SERVER" != rt-cri ] || [ "${NETWORK-}" = cni ]; then network; fi
    "serve_${SERVER//-/_}" >>"$LOG" 2>&1 &
    SERVER_PID=$!
    PATIENCE=200 until_true crictl version || stop_with "$LOG" "$SERVER does not answer"
}

CNI_BIN=$PEERS/cni # CNI plugins
CNI_VERSION=1.0.0

network() {
    cat >/tmp/net.d/10-bridge.conflist <<-END
	{"cniVersion": "$CNI_VERSION", "name": "room", "plugins": [
	  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
	   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
	  {"type": "portmap", "capabilities": {"portMappings": true}},
	  {"type": "bandwidth", "capabilities": {"bandwidth": true}}]}
	END
}

serve_rt_cri() {
    cat >/tmp/rt-cri.toml <<-END
	[cgroup]
	missing = "ignore"
	[cni]
	conf_dir = "/tmp/net.d"
	bin_dirs = ["$CNI_BIN"]
	[registry]
	config_path = ["$CERTS"]
	${MORE_CONFIG-}
	END
    exec rt-cri serve --config /tmp/rt-cri.toml --listen "unix://$SOCKET"
}

serve_containerd() {
    cat >/tmp/containerd.toml <<-END
	version = 4
	[plugins."io.containerd.cri.v1.images".registry]
	config_path = "$CERTS"
	[plugins."io.containerd.cri.v1.images".pinned_images]
	sandbox = "registry.k8s.io/pause:3.10.1"
	[plugins."io.containerd.cri.v1.runtime"]
	restrict_oom_score_adj = true
	${MORE_CONTAINERD-}
	[plugins."io.containerd.cri.v1.runtime".cni]
	bin_dirs = ["$CNI_BIN"]
	conf_dir = "/tmp/net.d"
	[plugins."io.containerd.cri.v1.runtime".containerd]
	default_runtime_name = "${CONTAINERD_RUNTIME:-runc}"
	[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.rt]
	runtime_type = "io.containerd.rt.v2"
	[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
	runtime_type = "io.containerd.runc.v2"
	[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
	BinaryName = "${RUNC:-$PEERS/bin/runc}"
	SystemdCgroup = false
	END
    exec containerd --config /tmp/containerd.toml
}

serve_crio() {
    printf '[[registry]]\nprefix = "registry.k8s.io"\nlocation = "127.0.0.1:5000"\ninsecure = true\n' >/etc/containers/registries.conf.d/room.conf
    cat >/tmp/crio.toml <<-END
	[crio]
	root = "/var/lib/crio-storage"
	runroot = "/run/crio-storage"
	log_dir = "/tmp/crio-logs"
	[crio.api]
	listen = "$SOCKET"
	[crio.runtime]
	conmon = "/usr/bin/conmon"
	conmon_cgroup = "pod"
	cgroup_manager = "cgroupfs"
	pinns_path = "$PEERS/bin/pinns"
	default_runtime = "runc"
	[crio.runtime.runtimes.runc]
	runtime_path = "${RUNC:-$PEERS/bin/runc}"
	monitor_path = "/usr/bin/conmon"
	[crio.image]
	pause_image = "registry.k8s.io/pause:3.10.1"
	[crio.network]
	network_dir = "/tmp/net.d"
	plugin_dirs = ["$CNI_BIN"]
	END
    exec "$PEERS/bin/crio" --config /tmp/crio.toml --config-dir ""
}

crictl() { "$PEERS/bin/crictl" "$@"; }
printf 'runtime-endpoint: unix://%s\nimage-endpoint: unix://%s\ntimeout: 20\n' "$SOCKET" "$SOCKET" >/etc/crictl.yaml

# What may not be there once all pods are removed; the server still runs.
leaves_no_pod() {
    holds no_pod_is_left 0 "" crictl pods -q
    holds no_container_is_left 0 "" crictl ps -a -q
    until_true no_shim
    holds no_shim_is_left 1 "" pgrep -ax containerd-shim
    holds no_network_namespace_is_left 0 "" sh -c 'ls -A /run/netns 2>/dev/null; true'
    holds no_mount_is_left 1 "" grep -E ' /(run/rt|run/containerd|var/lib/rt|var/lib/containerd|var/lib/kubelet)/[^ ]' /proc/self/mounts
}
no_shim() { ! pgrep -x containerd-shim; }

# stop_with LOG WORDS: nothing can be tested.
stop_with() {
    tail -n 30 "$1"
    echo "FAIL $ENGINE: $2"
    exit 1
}
