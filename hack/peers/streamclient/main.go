// streamclient: Kubernetes' own client libraries against what serves exec, attach and port-forward: a CRI server's streaming
// URLs, or a kubelet. The same program is put into the container, where it is the other end.
//
//	streamclient serve [--use]|gen BYTES|verify BYTES in the container
//	streamclient check|idle|bench|summary|stats OPTION… outside
//	streamclient table FILE FILE                  of what bench printed
//	streamclient certificate DIRECTORY            one for the server
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fatal("no verb: serve, gen, verify, check, idle, bench, summary, stats, table or certificate")
	}
	switch verb, rest := os.Args[1], os.Args[2:]; verb {
	case "serve":
		serve(rest)
	case "gen":
		if err := generate(os.Stdout, number(rest)); err != nil {
			fatal("gen: %v", err)
		}
	case "verify":
		if err := verify(os.Stdin, number(rest)); err != nil {
			fatal("verify: %v", err)
		}
		fmt.Println("whole")
	case "certificate":
		if len(rest) != 1 {
			fatal("one directory")
		}
		if err := certificate(rest[0]); err != nil {
			fatal("certificate: %v", err)
		}
	case "table":
		if err := table(rest); err != nil {
			fatal("table: %v", err)
		}
	case "check", "idle", "bench", "summary", "stats":
		run(verb, rest)
	default:
		fatal("no such verb: %s", verb)
	}
}

func run(verb string, arguments []string) {
	var peer peer
	flags := flag.NewFlagSet(verb, flag.ExitOnError)
	flags.StringVar(&peer.cri, "cri", "", "the CRI server's socket: unix://PATH")
	flags.StringVar(&peer.kubelet, "kubelet", "", "or the kubelet: https://HOST:PORT")
	flags.StringVar(&peer.container, "container", "", "the container: an id, or with a kubelet its name")
	flags.StringVar(&peer.attached, "attach", "", "a container that repeats the lines that it gets")
	flags.StringVar(&peer.pod, "pod", "", "the pod: an id, or with a kubelet NAMESPACE/NAME")
	name := flags.String("name", "streaming", "what names of checks begin with")
	size := flags.Int64("bytes", 256<<20, "how much huge output is")
	rounds := flags.Int("rounds", 1, "how often each figure is taken")
	only := flags.String("only", "", "checks whose names contain it")
	long := flags.Duration("long", 12*time.Second, "how long idle is")
	memory := flags.Bool("memory", false, "the host counts memory")
	counted := flags.Bool("counted", false, "the file system counts what layers take")
	sent := flags.Uint64("sent", 0, "how many bytes the pod has sent at least")
	lapse := flags.Duration("lapse", 0, "idle sessions ping so often, 720 times: an hour of pings")
	_ = flags.Parse(arguments)
	if err := peer.connect(); err != nil {
		fatal("%v", err)
	}
	switch verb {
	case "bench":
		bench(&peer, *size, *rounds)
	case "summary":
		if err := summarised(&peer, *memory, *sent); err != nil {
			fatal("summary: %v", err)
		}
	case "stats":
		if err := stats(&peer, *counted); err != nil {
			fatal("stats: %v", err)
		}
	case "idle":
		os.Exit(idle(&peer, *name, *long, *lapse))
	default:
		os.Exit(check(&peer, *name, *only, *size))
	}
}

func number(arguments []string) int64 {
	if len(arguments) != 1 {
		fatal("one number of bytes")
	}
	bytes, err := strconv.ParseInt(arguments[0], 10, 64)
	if err != nil {
		fatal("%v", err)
	}
	return bytes
}

func fatal(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "streamclient: "+format+"\n", values...)
	os.Exit(2)
}
