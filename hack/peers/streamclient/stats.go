package main

import (
	"context"
	"errors"
	"fmt"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// stats looks whether a CRI server's own statistics say what a container that runs `serve --use` uses, on a host that counts everything.
func stats(p *peer, counted bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := p.runtime.ContainerStats(ctx, &cri.ContainerStatsRequest{ContainerId: p.container})
	if err != nil {
		return err
	}
	container := answer.GetStats()
	if err := errors.Join(usesCPUAndMemory(container), usesDisk(container, usedDisk)); err != nil {
		return err
	}
	if counted {
		if err := p.writesMore(ctx); err != nil {
			return err
		}
	}
	return errors.Join(p.podStats(ctx), p.metrics(ctx))
}

func usesCPUAndMemory(of *cri.ContainerStats) error {
	cpu, memory, swap := of.GetCpu(), of.GetMemory(), of.GetSwap()
	return errors.Join(
		between("CPU nanoseconds", cpu.GetUsageCoreNanoSeconds().GetValue(), uint64(usedCPU), 100*uint64(usedCPU)),
		there("nanocores", cpu.GetUsageNanoCores() != nil),
		there("pressure of CPU", cpu.GetPsi().GetSome() != nil),
		between("working set", memory.GetWorkingSetBytes().GetValue(), usedMemory, 3*usedMemory),
		between("resident", memory.GetRssBytes().GetValue(), usedMemory, 3*usedMemory),
		between("memory with caches", memory.GetUsageBytes().GetValue(), memory.GetWorkingSetBytes().GetValue(), 8*usedMemory),
		between("page faults", memory.GetPageFaults().GetValue(), 1, 1<<30),
		there("pressure of memory", memory.GetPsi().GetFull() != nil),
		there("swap", swap.GetSwapUsageBytes() != nil),
		there("pressure of disks", of.GetIo().GetPsi().GetSome() != nil),
	)
}

func usesDisk(of *cri.ContainerStats, bytes uint64) error {
	layer := of.GetWritableLayer()
	return errors.Join(
		between("bytes of the writable layer", layer.GetUsedBytes().GetValue(), bytes, bytes+1<<20),
		between("inodes of the writable layer", layer.GetInodesUsed().GetValue(), 1, 20),
	)
}

// writesMore: a file system that counts needs no walk, so that the next answer knows of what was written just now.
func (p *peer) writesMore(ctx context.Context) error {
	const more = 3 << 20
	command := []string{"dd", "if=/dev/zero", "of=/more", "bs=1048576", "count=3"}
	done, err := p.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: command})
	if err != nil || done.GetExitCode() != 0 {
		return errors.Join(err, fmt.Errorf("dd: exit code %d: %s", done.GetExitCode(), done.GetStderr()))
	}
	answer, err := p.runtime.ContainerStats(ctx, &cri.ContainerStatsRequest{ContainerId: p.container})
	return errors.Join(err, usesDisk(answer.GetStats(), usedDisk+more))
}

func (p *peer) podStats(ctx context.Context) error {
	answer, err := p.runtime.PodSandboxStats(ctx, &cri.PodSandboxStatsRequest{PodSandboxId: p.pod})
	if err != nil {
		return err
	}
	pod := answer.GetStats().GetLinux()
	return errors.Join(
		between("working set of the pod", pod.GetMemory().GetWorkingSetBytes().GetValue(), usedMemory, 3*usedMemory),
		between("processes of the pod", pod.GetProcess().GetProcessCount().GetValue(), 2, 1000),
		same("interface", pod.GetNetwork().GetDefaultInterface().GetName(), "eth0"),
		there("pressure of the pod's disks", pod.GetIo().GetPsi().GetSome() != nil),
		same("containers", len(pod.GetContainers()), 1),
	)
}

// metrics have cAdvisor's names, and the same values.
func (p *peer) metrics(ctx context.Context) error {
	answer, err := p.runtime.ListPodSandboxMetrics(ctx, &cri.ListPodSandboxMetricsRequest{})
	if err != nil {
		return err
	}
	for _, pod := range answer.GetPodMetrics() {
		for _, container := range pod.GetContainerMetrics() {
			for _, metric := range container.GetMetrics() {
				if container.GetContainerId() == p.container && metric.GetName() == "container_memory_working_set_bytes" {
					return between(metric.GetName(), metric.GetValue().GetValue(), usedMemory, 3*usedMemory)
				}
			}
		}
	}
	return errors.New("no metric of the container's working set")
}

func there(what string, is bool) error {
	if !is {
		return fmt.Errorf("%s: not told", what)
	}
	return nil
}
