# Sourced by docker and docker26, once a dockerd answers that has the runtime `under-test`, with KNOWN_CAPABILITIES: what a person does with docker; and `limits`,
# what needs all of cgroup v2. Starts and ends no daemon.

T=t:1
tar -C $IMAGE -c . | docker import - $T >/dev/null || exit 2
d() { holds "$1" "$2" "$3" docker "${@:4}"; }
# run NAME CODE PATTERN ARGUMENT…
run() { d "$1" "$2" "$3" run --runtime under-test "${@:4}"; }

BOUNDING=$(sed -n 's/CapBnd:.//p' /proc/self/status)

limits() {
    run memory_limit_is_set 0 "67108864" --rm -m 64m $T cat /sys/fs/cgroup/memory.max
    run too_much_memory_is_killed 137 "*" --name fat -m 16m --memory-swap 16m $T tail /dev/zero
    d docker_knows_that_it_was_memory 0 "true" inspect fat --format '{{.State.OOMKilled}}'
    run pids_limit_is_set 0 "33" --rm --pids-limit 33 $T cat /sys/fs/cgroup/pids.max
    run cpu_quota_is_set 0 "50000 100000" --rm --cpus 0.5 $T cat /sys/fs/cgroup/cpu.max
    run shares_become_a_weight 0 "59" --rm --cpu-shares 512 $T cat /sys/fs/cgroup/cpu.weight
    run a_limited_container_runs 0 "*" -d --name lim -m 64m --memory-swap 64m $T sleep 1000
    d update_changes_the_limit 0 "lim" update -m 32m --memory-swap 32m lim
    d the_updated_limit_is_seen_inside 0 "33554432" exec lim cat /sys/fs/cgroup/memory.max
    d stats_are_read 0 "*lim*32MiB*" stats --no-stream lim
    d all_goes_away 0 "*" rm -f lim fat
}

basics() {
    run run_prints_and_ends 0 "hello" --rm $T echo hello
    run the_exit_code_is_the_commands 7 "" --rm --network none $T sh -c 'exit 7'
    run a_command_that_is_not_there_is_127 127 "*" --rm $T /no/such/command
    run a_command_that_is_no_program_is_126 126 "*" --rm $T /etc/passwd
    run user_and_groups 0 "uid=1000(user) gid=1000(user)*" --rm --user user $T id
    run hostname_env_and_directory 0 "there v /tmp" --rm -h there -e K=v -w /tmp $T sh -c 'echo $(hostname) $K $(pwd)'
    run a_terminal_is_a_terminal 0 "*/dev/pts/0*" --rm -t $T tty
    run read_only_root_with_a_tmpfs 0 "fine" --rm --read-only --tmpfs /tmp $T sh -c 'touch /x 2>/dev/null && exit 1; touch /tmp/x && echo fine'
    run a_volume_is_seen_on_both_sides 0 "" --rm -v /tmp:/data $T sh -c 'echo left >/data/by-docker'
    holds the_host_sees_what_the_volume_got 0 "left" cat /tmp/by-docker
    run capabilities_can_be_dropped 0 "*CapEff:?0000000000000000*" --rm --cap-drop ALL $T grep CapEff /proc/self/status
    run default_seccomp_profile_is_on 0 "*Seccomp:?2*" --rm $T grep Seccomp: /proc/self/status
    except runc 'it refuses capabilities that the host itself has not' \
        run privileged_has_no_seccomp 0 "*Seccomp:?0*" --rm --privileged $T grep Seccomp: /proc/self/status
    run no_new_privileges_is_kept 0 "*NoNewPrivs:?1*" --rm --security-opt no-new-privileges $T grep NoNewPrivs /proc/self/status
    run a_device_is_given 0 "crw*" --rm --device /dev/null:/dev/rt-null $T ls -l /dev/rt-null
    run sysctl_and_ulimit 0 "5 77" --rm --sysctl net.ipv4.tcp_syn_retries=5 --ulimit nofile=77:77 $T sh -c 'echo $(cat /proc/sys/net/ipv4/tcp_syn_retries) $(ulimit -n)'
    run an_init_stands_before_the_command 0 "*docker-init*" --rm --init $T cat /proc/1/cmdline
    run shared_memory_has_its_size 0 "*8.0M*/dev/shm*" --rm --shm-size 8m $T df -h /dev/shm

    run detached_container_starts 0 "*" -d --name one $T sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done'
    d exec_runs_inside 0 "one-file" exec one sh -c 'echo one-file >/tmp/f; cat /tmp/f'
    d exec_gives_the_exit_code 3 "" exec one sh -c 'exit 3'
    d exec_of_what_is_not_there_is_126 126 "*o such file*" exec one /no/such/command
    d exec_as_a_user_elsewhere 0 "1000 /etc w" exec -u user -w /etc -e V=w one sh -c 'echo $(id -u) $(pwd) $V'
    except runc 'it refuses capabilities that the host itself has not' \
        d exec_privileged_has_all_the_host_has 0 "*$(printf %016x "$((0x$BOUNDING & KNOWN_CAPABILITIES))")*" exec --privileged one grep CapEff /proc/self/status
    d pause_freezes 0 "one" pause one
    d a_paused_container_says_so 0 "paused" inspect one --format '{{.State.Status}}'
    d unpause_thaws 0 "one" unpause one
    d top_lists_processes 0 "*sh -c*" top one
    d logs_are_kept 0 "" logs one
    d stop_lets_it_end_by_itself 0 "one" stop -t 10 one
    d it_ended_with_its_own_code 0 "exited 9" inspect one --format '{{.State.Status}} {{.State.ExitCode}}'
    d it_starts_again 0 "one" start one
    d kill_ends_it 0 "one" kill one
    until_true sh -c "[ \$(docker inspect one --format '{{.State.Status}}') = exited ]"
    d a_killed_container_is_137 0 "exited 137" inspect one --format '{{.State.Status}} {{.State.ExitCode}}'
    d rm_removes 0 "one" rm one

    run a_server_runs 0 "*" -d --name web --ipc shareable $T sh -c 'mkdir /www; echo page >/www/index.html; exec httpd -f -p 80 -h /www'
    run a_container_joins_its_network_and_ipc 0 "page" --rm --network container:web --ipc container:web $T sh -c 'for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://127.0.0.1/ 2>/dev/null && exit; sleep 0.1; done; exit 1'
    run a_container_joins_its_processes 0 "*httpd*" --rm --pid container:web $T ps
    d all_goes_away 0 "web" rm -f web
}
