package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cost of idle pods; kilobytes.
type cost struct {
	shim, pause uint64 // of one, the median
	all         uint64
	threads     uint64
	switches    uint64
}

// costs starts pods of nothing but pause under each shim, looks at them when all are there, and ends them.
func (c *client) costs(sides []side, pods int) (map[string]cost, error) {
	all := map[string][]*running{}
	defer func() {
		for _, s := range sides {
			for _, r := range all[s.name] {
				_ = r.task.Kill(c.ctx, syscall.SIGKILL)
				_, _ = r.ended(c.ctx)
				_ = c.remove(r.Container)
			}
		}
	}()
	for i := range pods {
		for _, s := range sides {
			made, err := c.container(s, fmt.Sprintf("pod-%s-%d", s.name, i), "", s.pause)
			if err != nil {
				return nil, err
			}
			r, err := c.start(made)
			if err != nil {
				return nil, err
			}
			all[s.name] = append(all[s.name], r)
		}
	}
	time.Sleep(3 * time.Second) // what start-up left to do
	result := map[string]cost{}
	for _, s := range sides {
		found, err := look(s)
		if err != nil {
			return nil, err
		}
		if len(found.shims) != pods || len(found.pauses) != pods {
			return nil, fmt.Errorf("%s: %d pods have %d shims and %d pause processes", s.name, pods, len(found.shims), len(found.pauses))
		}
		before := switches(found)
		time.Sleep(5 * time.Second)
		result[s.name] = cost{
			shim: middle(found.shims, own), pause: middle(found.pauses, own),
			all:      sum(found.shims, shared) + sum(found.pauses, shared),
			threads:  middle(found.shims, func(pid int) uint64 { return uint64(len(tasks(pid))) }),
			switches: switches(found) - before,
		}
	}
	return result, nil
}

type processes struct{ shims, pauses []int }

// look finds a side's processes by the programs they run.
func look(s side) (processes, error) {
	var found processes
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return found, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// Links of kernel threads and of processes that have just ended can't be read: none of them is ours.
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		switch filepath.Base(exe) {
		case s.shim:
			found.shims = append(found.shims, pid)
		case filepath.Base(s.pause):
			found.pauses = append(found.pauses, pid)
		}
	}
	return found, nil
}

// own is what would be free again without the process: pages that nobody else maps.
func own(pid int) uint64    { return field(pid, "Private_Clean:") + field(pid, "Private_Dirty:") }
func shared(pid int) uint64 { return field(pid, "Pss:") }

func field(pid int, name string) uint64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok {
			number, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return number
		}
	}
	panic(fmt.Sprintf("no %s of process %d", name, pid))
}

func tasks(pid int) []string {
	found, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	return found
}

// switches counts how often these processes have run, so far.
func switches(found processes) uint64 {
	var all uint64
	for _, pid := range append(append([]int{}, found.shims...), found.pauses...) {
		for _, status := range tasks(pid) {
			text, _ := os.ReadFile(status)
			for _, line := range strings.Split(string(text), "\n") {
				if name, rest, _ := strings.Cut(line, ":"); strings.HasSuffix(name, "voluntary_ctxt_switches") {
					number, _ := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
					all += number
				}
			}
		}
	}
	return all
}

func middle(pids []int, of func(int) uint64) uint64 {
	values := make([]uint64, 0, len(pids))
	for _, pid := range pids {
		values = append(values, of(pid))
	}
	for i := range values { // few: no need for more
		for j := i; j > 0 && values[j] < values[j-1]; j-- {
			values[j], values[j-1] = values[j-1], values[j]
		}
	}
	return values[len(values)/2]
}

func sum(pids []int, of func(int) uint64) (all uint64) {
	for _, pid := range pids {
		all += of(pid)
	}
	return all
}
