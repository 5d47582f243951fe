package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// targets: ours at most this part of theirs, of the medians.
var targets = []struct {
	what string
	most float64
}{{"create + start", 1. / 2}, {"exec of `true`", 1. / 5}, {"kill + delete", 1. / 3}}

type samples map[string]map[string][]time.Duration

// bench prints lines of a table: what | ours | theirs | ratio or target | met.
func bench(c *client, ours, theirs side, rounds, pods int, file string) error {
	times := samples{}
	for round := -1; round < rounds; round++ {
		if round == 0 {
			times = samples{} // the first one filled caches
		}
		for _, s := range []side{ours, theirs} {
			if err := c.round(s, times); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	figures := []map[string]any{}
	for _, target := range targets {
		o, t := times[target.what]["ours"], times[target.what]["theirs"]
		ratio := float64(median(o)) / float64(median(t))
		fmt.Printf("| task %s | %s | %s | %.2f × (at most %.2f) | %s |\n", target.what, show(o), show(t), ratio, target.most, verdict(ratio <= target.most))
		figures = append(figures, map[string]any{"what": target.what, "ours_us": median(o).Microseconds(), "theirs_us": median(t).Microseconds(),
			"ratio": ratio, "target": target.most, "met": ratio <= target.most})
	}
	costs, err := c.costs([]side{ours, theirs}, pods)
	if err != nil {
		return err
	}
	o, t := costs["ours"], costs["theirs"]
	rows := []struct {
		what         string
		ours, theirs uint64
		unit         string
		most         uint64
	}{
		{"a pod's shim, memory of its own (USS)", o.shim, t.shim, "kB", 0},
		{"its pause process", o.pause, t.pause, "kB", 0},
		{"both", o.shim + o.pause, t.shim + t.pause, "kB", 1000},
		{fmt.Sprintf("%d pods, shims and pauses, shared memory once (PSS)", pods), o.all, t.all, "kB", uint64(pods) * 1000},
		{"threads of a shim", o.threads, t.threads, "", 0},
		{fmt.Sprintf("context switches of %d idle pods in 5 s", pods), o.switches, t.switches, "", 0},
	}
	for i, row := range rows {
		text, met := "", ""
		if row.most > 0 || i == len(rows)-1 {
			text, met = fmt.Sprintf("at most %d %s", row.most, row.unit), verdict(row.ours <= row.most)
		}
		fmt.Printf("| %s | %d %s | %d %s | %s | %s |\n", row.what, row.ours, row.unit, row.theirs, row.unit, text, met)
		figures = append(figures, map[string]any{"what": row.what, "ours": row.ours, "theirs": row.theirs, "unit": row.unit})
	}
	if file == "" {
		return nil
	}
	text, err := json.Marshal(figures)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// round is one container's life on one side.
func (c *client) round(s side, times samples) error {
	c.count++
	made, err := c.container(s, fmt.Sprintf("%s-%d", s.name, c.count), "", "/bin/sleep", "1000")
	if err != nil {
		return err
	}
	begin := time.Now()
	r, err := c.start(made)
	if err != nil {
		return err
	}
	times.add("create + start", s, begin)

	spec, err := made.Spec(c.ctx)
	if err != nil {
		return err
	}
	for i := range 3 {
		begin = time.Now()
		if err := c.exec(r, fmt.Sprintf("e%d", i), *spec.Process); err != nil {
			return err
		}
		times.add("exec of `true`", s, begin)
	}

	begin = time.Now()
	if err := r.task.Kill(c.ctx, syscall.SIGKILL); err != nil {
		return err
	}
	code, err := r.ended(c.ctx)
	if err != nil {
		return err
	}
	times.add("kill + delete", s, begin)
	if code != 137 {
		return fmt.Errorf("a killed task ended with %d", code)
	}
	return c.remove(made)
}

// exec runs `true` to its end, as an engine does: create, start, wait, delete.
func (c *client) exec(r *running, id string, process specs.Process) error {
	process.Args = []string{"/bin/true"}
	p, err := r.task.Exec(c.ctx, id, &process, cio.NullIO)
	if err != nil {
		return err
	}
	end, err := p.Wait(c.ctx)
	if err != nil {
		return err
	}
	if err := p.Start(c.ctx); err != nil {
		return err
	}
	<-end
	status, err := p.Delete(c.ctx)
	if err == nil && status.ExitCode() != 0 {
		err = fmt.Errorf("true ended with %d", status.ExitCode())
	}
	return err
}

func (times samples) add(what string, s side, begin time.Time) {
	if times[what] == nil {
		times[what] = map[string][]time.Duration{}
	}
	times[what][s.name] = append(times[what][s.name], time.Since(begin))
}

func median(times []time.Duration) time.Duration {
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	return times[len(times)/2]
}

func show(times []time.Duration) string {
	m := median(times) // sorts
	return fmt.Sprintf("%.1f ms (%.1f)", float64(m.Microseconds())/1000, float64(times[0].Microseconds())/1000)
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}
