# Sourced by the tests with a kubelet: an unmodified one, standalone, with the CRI server under test (see cri.sh), and a
# static pod, `web`: what it must do is asserted here, in what order is told by the tests.
. "$(dirname "${BASH_SOURCE[0]}")/cri.sh"

MANIFESTS=/tmp/manifests
WITNESS=/tmp/witness # a folder of the host that the pod writes to
KUBELET_LOG=/tmp/kubelet.log

# It changes these for the whole machine.
SETTINGS=(vm/overcommit_memory kernel/panic kernel/panic_on_oops)
declare -A BEFORE
for setting in "${SETTINGS[@]}"; do BEFORE[$setting]=$(cat "/proc/sys/$setting"); done
restore() { for setting in "${SETTINGS[@]}"; do echo "${BEFORE[$setting]}" >"/proc/sys/$setting"; done; }
trap restore EXIT

# settings LINES: the kubelet's configuration; LINES are what differs between machines.
settings() {
    mkdir -p $MANIFESTS $WITNESS
    cat >/tmp/kubelet.yaml <<-END
	apiVersion: kubelet.config.k8s.io/v1beta1
	kind: KubeletConfiguration
	staticPodPath: $MANIFESTS
	podLogsDir: /tmp/pod-logs
	containerRuntimeEndpoint: unix://$SOCKET
	failSwapOn: false
	failCgroupV1: false
	address: 127.0.0.1
	port: 10250
	readOnlyPort: 10255
	authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
	authorization: {mode: AlwaysAllow}
	registerNode: false
	makeIPTablesUtilChains: false
	volumePluginDir: /tmp/volume-plugins
	fileCheckFrequency: 1s
	syncFrequency: 2s
	evictionHard: {}
	evictionPressureTransitionPeriod: 5s
	imageGCHighThresholdPercent: 100
	imageGCLowThresholdPercent: 99
	$1
	END
}

# Moved into place: a half-written manifest is an error to it.
manifest() {
    cat >/tmp/web.yaml <<-END
	apiVersion: v1
	kind: Pod
	metadata: {name: web, namespace: default, labels: {app: web}}
	spec:
	  terminationGracePeriodSeconds: 6
	  initContainers:
	  - name: prepare
	    image: &image registry.k8s.io/e2e-test-images/busybox:1.29-2
	    command: [sh, -c, "echo made by the init container >/shared/index.html; cat /proc/uptime >/witness/init"]
	    volumeMounts: &mounts [{name: shared, mountPath: /shared}, {name: witness, mountPath: /witness}]
	  containers:
	  - name: server
	    image: *image
	    command: [sh, -c, "cat /proc/uptime >/witness/server; trap 'cat /proc/uptime >/witness/term; exit 0' TERM; httpd -p 8080 -h /shared; while :; do sleep 0.1; done"]
	    ports: [{containerPort: 8080}]
	    readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1, timeoutSeconds: 20}
	    lifecycle: {preStop: {exec: {command: [sh, -c, "cat /proc/uptime >/witness/prestop; sleep 1"]}}}
	    resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 200m, memory: 64Mi}}
	    volumeMounts: *mounts
	  - name: client
	    image: *image
	    command: [sh, -c, "touch /shared/alive; echo client starts; while :; do wget -q -O- http://127.0.0.1:8080/; sleep 0.5; done"]
	    livenessProbe: {exec: {command: [test, -e, /shared/alive]}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 20}
	    resources: {requests: {cpu: 10m, memory: 8Mi}}
	    volumeMounts: *mounts
	  volumes:
	  - {name: shared, emptyDir: {}}
	  - {name: witness, hostPath: {path: $WITNESS}}
	END
    mv /tmp/web.yaml $MANIFESTS/
}

start_kubelet() {
    "$PEERS/bin/kubelet" --config=/tmp/kubelet.yaml --root-dir=/var/lib/kubelet --cert-dir=/var/lib/kubelet/pki \
        --hostname-override=node >>$KUBELET_LOG 2>&1 &
    KUBELET_PID=$!
    PATIENCE=600 until_true busybox wget -q -O /dev/null http://127.0.0.1:10255/healthz || stop_with $KUBELET_LOG "kubelet does not answer"
}

pods() { busybox wget -q -O - http://127.0.0.1:10255/pods; }
# ask PATH: the body of an answer of the kubelet's API.
ask() { printf 'GET %s HTTP/1.0\r\nHost: node\r\n\r\n' "$1" | socat -t 10 STDIO,ignoreeof OPENSSL:127.0.0.1:10250,verify=0 2>/dev/null | sed '1,/^\r$/d'; }
ready() { pods | grep -q '"type":"Ready"[^}]*"status":"True"'; }
running() { crictl ps -q --no-trunc --name "^$1\$" --state Running 2>/dev/null; }
restarted() { local now; now=$(running client) && [ -n "$now" ] && [ "$now" != "$CLIENT" ]; }
no_pods() { [ -z "$(crictl pods -q)" ] && [ -z "$(crictl ps -a -q)" ]; }
log_has() { ask "/containerLogs/default/web-node/$1?$2" | grep -q "$3"; }
# order A B: the file A was written before B; they hold the machine's uptime in hundredths of a second.
order() { [ -s "$WITNESS/$1" ] && [ -s "$WITNESS/$2" ] && [ "$(uptime_in "$1")" -lt "$(uptime_in "$2")" ]; }
uptime_in() { cut -d ' ' -f 1 "$WITNESS/$1" | tr -d .; }
pod_directories() { ls -A /var/lib/kubelet/pods 2>/dev/null; }

becomes_ready() {
    local begin
    begin=$(date +%s%N)
    manifest
    PATIENCE=1200 until_true ready || { crictl ps -a; pods; tail -n 40 $KUBELET_LOG "$LOG"; }
    holds a_static_pod_becomes_ready 0 "" ready
    echo "kubelet: ready after $((($(date +%s%N) - begin) / 1000000)) ms"
    holds the_init_container_came_first 0 "" order init server
    until_true log_has client "" "made by the init container"
    holds containers_meet_on_localhost_and_a_volume 0 "*made by the init container*" ask /containerLogs/default/web-node/client
    holds the_kubelets_api_gives_logs 0 "*client starts*" ask /containerLogs/default/web-node/client
    holds the_kubelets_api_gives_a_tail 0 "made by the init container*" ask "/containerLogs/default/web-node/client?tailLines=1"
}

liveness() {
    CLIENT=$(running client)
    crictl exec -s "$CLIENT" rm /shared/alive
    PATIENCE=1200 until_true restarted
    holds a_failed_liveness_probe_restarts_the_container 0 "" restarted
    PATIENCE=600 until_true log_has client previous=true "client starts"
    holds the_previous_log_is_kept 0 "*client starts*" ask "/containerLogs/default/web-node/client?previous=true"
    PATIENCE=600 until_true ready
}

# A pod to look into: one container is the client's other end and uses a known amount of everything, one repeats what it is told, one
# has something large to give.
inside() {
    cat >/tmp/inside.yaml <<-END
	apiVersion: v1
	kind: Pod
	metadata: {name: inside, namespace: default}
	spec:
	  terminationGracePeriodSeconds: 1
	  containers:
	  - name: far
	    image: &image registry.k8s.io/e2e-test-images/busybox:1.29-2
	    command: [/streamclient, serve, --use]
	    volumeMounts: [{name: streamclient, mountPath: /streamclient}]
	  - name: repeats
	    image: *image
	    stdin: true
	    command: [sh, -c, "while read line; do echo got \$line; done; exec sleep 3600"]
	  - name: gives
	    image: *image
	    command: [sh, -c, "dd if=/dev/zero of=/large bs=1M count=16; exec httpd -f -p 8081 -h /"]
	  volumes: [{name: streamclient, hostPath: {path: $PEERS/bin/streamclient, type: File}}]
	END
    mv /tmp/inside.yaml $MANIFESTS/
    PATIENCE=1200 until_true serving
}
serving() { ask /containerLogs/default/inside-node/far | grep -q serving; }

# The kubelet's own /exec, /attach and /portForward, by client-go over SPDY and WebSocket. BYTES: how much huge output is.
streaming() {
    streamclient check --name "$ENGINE" --container far --attach repeats --bytes "${BYTES:-16777216}" 2>/tmp/client.log ||
        { failures=$((failures + 1)); tail -n 5 /tmp/client.log; }
}
streamclient() { "$PEERS/bin/streamclient" "$1" --kubelet https://127.0.0.1:10250 --pod default/inside-node "${@:2}"; }

# From its next start on the kubelet asks the server for statistics instead of reading cgroups itself: its own reader knows pods' networks
# with containerd and CRI-O only.
stats_from_cri() { echo 'featureGates: {PodAndContainerStatsFromCRI: true}' >>/tmp/kubelet.yaml; }

# What the kubelet says of CPU, memory (where it is counted), network and file system.
summary() {
    local memory=()
    ! has_controllers || memory=(--memory)
    PATIENCE=600 until_true gives
    holds the_pods_address_answers 0 "" gives
    # What a layer takes is at most ten seconds old, and so are the kubelet's own figures.
    PATIENCE=800 until_true summary_is_right ${memory[@]+"${memory[@]}"}
    holds the_summary_says_what_a_container_uses 0 "" summary_is_right ${memory[@]+"${memory[@]}"}
}
summary_is_right() { streamclient summary --container far --sent 16777216 "$@"; }
# Over the pod's interface: what is forwarded goes over its loopback.
gives() {
    local address
    address=$(crictl inspectp -o go-template --template '{{.status.network.ip}}' "$(crictl pods -q --name inside)")
    [ -s /tmp/given ] || busybox wget -q -O /tmp/given "http://$address:8081/large"
    [ "$(stat -c %s /tmp/given)" = 16777216 ]
}

kill_server() {
    kill -9 "$SERVER_PID"
    wait "$SERVER_PID" 2>/dev/null
    start_server
}

deaths() {
    CLIENT=$(running client) SERVED=$(running server)
    kill_server
    holds a_killed_server_finds_its_containers 0 "$SERVED" running server
    PATIENCE=600 until_true ready
    holds the_pod_stays_ready 0 "" ready
    kill -9 "$KUBELET_PID"
    wait "$KUBELET_PID" 2>/dev/null
    start_kubelet
    PATIENCE=1200 until_true ready
    holds a_killed_kubelet_finds_its_pod_ready 0 "" ready
    holds no_container_was_restarted 0 "$CLIENT $SERVED" echo "$(running client)" "$(running server)"
}

removal() {
    local begin
    begin=$(date +%s%N)
    rm $MANIFESTS/web.yaml
    PATIENCE=1200 until_true no_pods || crictl ps -a
    holds a_removed_manifest_ends_the_pod 0 "" no_pods
    local took=$((($(date +%s%N) - begin) / 1000000))
    echo "kubelet: gone after $took ms"
    holds the_pre_stop_hook_comes_before_the_signal 0 "" order prestop term
    PATIENCE=1200 until_true no_pod_directories
    holds the_kubelet_has_nothing_left_of_it 0 "" no_pod_directories
    kill "$KUBELET_PID"
    wait "$KUBELET_PID" 2>/dev/null
    leaves_no_pod
}
no_pod_directories() { [ -z "$(pod_directories)" ]; }

# The last words of a test with a kubelet.
kubelet_closing() {
    [ "$failures" = 0 ] || { tail -n 60 $KUBELET_LOG; tail -n 30 "$LOG"; }
    [ -z "${RT_TEST_KEEP-}" ] || cp $KUBELET_LOG "$LOG" "$RT_TEST_KEEP/"
    closing
}
