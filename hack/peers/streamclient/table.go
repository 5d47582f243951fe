package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// table prints bench's figures of two servers, ours and containerd's, from files with a JSON object a line; then all of it as JSON.
func table(files []string) error {
	if len(files) != 2 {
		return fmt.Errorf("two files of figures: ours and containerd's")
	}
	ours, err := read(files[0])
	if err != nil {
		return err
	}
	theirs, err := read(files[1])
	if err != nil {
		return err
	}
	fmt.Println("| | unit | rt-cri | containerd 2.4.2 | ratio | target | |\n|---|---|---|---|---|---|---|")
	names := make([]string, 0, len(ours))
	for name := range ours {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		unit, target, sign := "MB/s", 2.0, 1.0
		if strings.HasPrefix(name, "first") || strings.HasPrefix(name, "crictl") {
			unit, target, sign = "ms", 0.5, -1.0 // the less the better
		}
		mine := median(ours[name])
		if len(theirs[name]) == 0 {
			fmt.Printf("| %s | %s | %.1f | does not speak it | | %v | |\n", name, unit, mine, target)
			continue
		}
		ratio, verdict := mine/median(theirs[name]), "missed"
		if sign*ratio >= sign*target {
			verdict = "met"
		}
		fmt.Printf("| %s | %s | %.1f | %.1f | %.2f | %v | %s |\n", name, unit, mine, median(theirs[name]), ratio, target, verdict)
	}
	all, err := json.Marshal(map[string]any{"rt-cri": ours, "containerd": theirs})
	fmt.Printf("JSON %s\n", all)
	return err
}

func read(path string) (map[string][]float64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all := map[string][]float64{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var figures map[string][]float64
		if err := json.Unmarshal(lines.Bytes(), &figures); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for name, values := range figures {
			all[name] = append(all[name], values...)
		}
	}
	return all, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
