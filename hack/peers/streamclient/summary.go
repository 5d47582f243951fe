package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// What is looked at of a kubelet's stats/summary.
type summary struct {
	Pods []struct {
		PodRef  struct{ Name, Namespace string }
		Network *struct {
			Name             string
			RxBytes, TxBytes uint64
		}
		Containers []struct {
			Name         string
			CPU          struct{ UsageCoreNanoSeconds uint64 }
			Memory       struct{ WorkingSetBytes uint64 }
			Rootfs, Logs struct{ UsedBytes *uint64 }
		}
	}
}

// summarised looks whether a kubelet's summary says what the container that runs `serve --use` uses, and what its pod has sent.
// Memory only where the host counts it.
func summarised(p *peer, withMemory bool, sent uint64) error {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Get(p.kubelet + "/stats/summary")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return errors.Join(err, fmt.Errorf("%s: %s", answer.Status, body))
	}
	var all summary
	if err := json.Unmarshal(body, &all); err != nil {
		return err
	}
	for _, pod := range all.Pods {
		if pod.PodRef.Namespace+"/"+pod.PodRef.Name != p.pod {
			continue
		}
		wrong := []error{fmt.Errorf("no container %s", p.container)}
		for _, container := range pod.Containers {
			if container.Name != p.container {
				continue
			}
			wrong = []error{
				between("CPU nanoseconds", container.CPU.UsageCoreNanoSeconds, uint64(usedCPU), 100*uint64(usedCPU)),
				about("bytes of the root file system", container.Rootfs.UsedBytes, usedDisk, usedDisk+1<<20),
				about("bytes of logs", container.Logs.UsedBytes, 1, 1<<20),
			}
			if withMemory {
				wrong = append(wrong, between("bytes of memory", container.Memory.WorkingSetBytes, usedMemory, 3*usedMemory))
			}
		}
		if pod.Network == nil || pod.Network.Name != "eth0" || pod.Network.RxBytes == 0 {
			wrong = append(wrong, fmt.Errorf("network: %+v", pod.Network))
		} else {
			wrong = append(wrong, between("bytes sent", pod.Network.TxBytes, sent, sent+sent/4+1<<20))
		}
		return errors.Join(wrong...)
	}
	return fmt.Errorf("no pod %s", p.pod)
}

func between(what string, is, least, most uint64) error {
	if is < least || is > most {
		return fmt.Errorf("%s: %d, expected %d to %d", what, is, least, most)
	}
	return nil
}

func about(what string, is *uint64, least, most uint64) error {
	if is == nil {
		return fmt.Errorf("%s: not told", what)
	}
	return between(what, *is, least, most)
}
