package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// What is looked at of a kubelet's stats/summary.
type summary struct {
	Pods []struct {
		PodRef  struct{ Name, Namespace string }
		Network *struct {
			Name    string
			RxBytes uint64
		}
		Containers []struct {
			Name         string
			CPU          struct{ UsageCoreNanoSeconds uint64 }
			Memory       struct{ WorkingSetBytes uint64 }
			Rootfs, Logs struct{ UsedBytes *uint64 }
		}
	}
}

// summarised looks whether a kubelet's summary has what a pod's containers use. Memory only where the host counts it.
func summarised(p *peer, withMemory bool) error {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Get(p.kubelet + "/stats/summary")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var all summary
	if err := json.NewDecoder(answer.Body).Decode(&all); err != nil {
		return err
	}
	for _, pod := range all.Pods {
		if pod.PodRef.Namespace+"/"+pod.PodRef.Name != p.pod {
			continue
		}
		var wrong []error
		if pod.Network == nil || pod.Network.Name != "eth0" || pod.Network.RxBytes == 0 {
			wrong = append(wrong, fmt.Errorf("network: %+v", pod.Network))
		}
		names := map[string]bool{}
		for _, container := range pod.Containers {
			names[container.Name] = true
			if container.CPU.UsageCoreNanoSeconds == 0 || container.Rootfs.UsedBytes == nil || container.Logs.UsedBytes == nil ||
				withMemory && container.Memory.WorkingSetBytes == 0 {
				wrong = append(wrong, fmt.Errorf("container %+v", container))
			}
		}
		for _, name := range strings.Split(p.container, ",") {
			if !names[name] {
				wrong = append(wrong, fmt.Errorf("no container %s", name))
			}
		}
		return errors.Join(wrong...)
	}
	return fmt.Errorf("no pod %s", p.pod)
}
