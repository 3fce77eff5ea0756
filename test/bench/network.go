package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"
)

// seconds is how long each transfer takes.
const seconds = "3"

// hostFiles lets iperf3(1), which is Debian's and linked to libraries, run in the
// bench's image.
var hostFiles = []string{"-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"}

const iperf = "/usr/bin/iperf3"

// networkRows: how long one gigabyte takes on each way that it can go, and requests.
// Podman is given its best: on a bridge its ports are rootlesskit's.
func (b *bench) networkRows() []row {
	if _, err := exec.LookPath(iperf); err != nil || b.quick {
		return nil
	}
	loopback := side{name: "loopback", value: func(int) (float64, error) {
		return b.gigabyte("", "127.0.0.1", func(addr string) []string { return []string{iperf, "-s", "-1", "-B", addr, "-p", "5201"} }, nil)
	}}
	published := func(p, port string, reverse bool) side {
		return side{name: p, before: b.server(p, port), value: func(int) (float64, error) {
			args := []string{"iperf3", "-c", "127.0.0.1", "-p", port, "-t", seconds, "-J"}
			if reverse {
				args = append(args, "-R")
			}
			return perGigabyte(b.output(args...))
		}}
	}
	between := func(p, port string) side {
		return side{name: p, before: b.server(p, port), value: func(int) (float64, error) {
			address, err := b.output(p, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "iperf"+port)
			if err != nil {
				return 0, err
			}
			return perGigabyte(b.output(b.client(p, "bench", address, "5201")...))
		}}
	}
	out := func(p, network string, extra ...string) side {
		return side{name: p, value: func(int) (float64, error) {
			return b.gigabyte(hostAddress(), hostAddress(), func(addr string) []string { return []string{iperf, "-s", "-1", "-B", addr, "-p", "5203"} },
				func(addr string) []string { return append(b.client(p, network, addr, "5203"), extra...) })
		}}
	}
	requests := func(p, port string) side {
		return side{name: p, before: b.webServer(p, port), timed: func(int) error { return get("http://127.0.0.1:"+port+"/", 200) }}
	}
	veth := side{name: "veth pairs", value: func(int) (float64, error) { return perGigabyte(b.output("unshare", "-rn", "sh", "-c", plainBridge)) }}
	return []row{
		{name: "1 GB to a published port / host's loopback", must: 1.25, stretch: 1, pairs: 5, moss: published("moss", "5211", false), other: loopback},
		{name: "1 GB to a published port", must: 1, stretch: 0.8, pairs: 5, moss: published("moss", "5211", false), other: published("podman", "5212", false)},
		{name: "1 GB from a published port", must: 1, stretch: 0.8, pairs: 5, moss: published("moss", "5211", true), other: published("podman", "5212", true)},
		{name: "200 requests to a published port", must: 1, stretch: 0.8, pairs: 5, moss: requests("moss", "5213"), other: requests("podman", "5214")},
		{name: "1 GB between containers / a plain bridge", must: 1.05, stretch: 1, pairs: 5, moss: between("moss", "5211"), other: veth},
		{name: "1 GB between containers", must: 1, stretch: 1, pairs: 5, moss: between("moss", "5211"), other: between("podman", "5212")},
		{name: "1 GB out of a container", must: 1, stretch: 0.6, pairs: 5, moss: out("moss", "bench"), other: out("podman", "slirp4netns")},
		{name: "1 GB into a container", must: 1, stretch: 0.6, pairs: 5, moss: out("moss", "bench", "-R"), other: out("podman", "slirp4netns", "-R")},
		{name: "1 GB out, network private / slirp4netns", must: 1, stretch: 0.6, pairs: 5, moss: out("moss", "private"), other: out("podman", "slirp4netns")},
	}
}

// server starts iperf3 once in a container of the network "bench", published.
func (b *bench) server(p, port string) func(int) error {
	return b.inBench(p, "iperf"+port, append([]string{"-p", "127.0.0.1:" + port + ":5201"}, hostFiles...), iperf, "-s")
}

func (b *bench) webServer(p, port string) func(int) error {
	return b.inBench(p, "web"+port, []string{"-p", "127.0.0.1:" + port + ":80", "-v", b.bin + ":/own:ro"}, "/own/box", "serve", "80", "hello")
}

// inBench starts a container once, under that name, and lets it get ready.
func (b *bench) inBench(p, name string, flags []string, command ...string) func(int) error {
	return func(int) error {
		if out, err := b.output(p, "ps", "-q", "--filter", "name="+name); err == nil && out != "" {
			return nil
		}
		b.spawn(p, "network", "create", "bench") // it may be there
		args := append([]string{p, "run", "-d", "--name", name, "--network", "bench"}, flags...)
		err := b.spawn(append(append(args, image), command...)...)
		time.Sleep(time.Second)
		return err
	}
}

func (b *bench) client(p, network, address, port string) []string {
	args := append([]string{p, "run", "--rm", "--network", network}, hostFiles...)
	return append(args, image, iperf, "-c", address, "-p", port, "-t", seconds, "-J")
}

// gigabyte runs a server for one client on the host, and a client.
func (b *bench) gigabyte(bind, address string, server, client func(string) []string) (float64, error) {
	if address == "" {
		return 0, errors.New("this host has no address but loopback")
	}
	if bind == "" {
		bind = address
	}
	args := server(bind)
	cmd := exec.Command(args[0], args[1:]...)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	time.Sleep(200 * time.Millisecond)
	if client == nil {
		return perGigabyte(b.output("iperf3", "-c", address, "-p", "5201", "-t", seconds, "-J"))
	}
	return perGigabyte(b.output(client(address)...))
}

// perGigabyte is the milliseconds that a gigabyte took, of what iperf3 -J prints.
func perGigabyte(out string, err error) (float64, error) {
	if err != nil {
		return 0, err
	}
	var said struct {
		Error string
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	_, text, _ := strings.Cut(out, "{")
	if err := json.NewDecoder(strings.NewReader("{" + text)).Decode(&said); err != nil {
		return 0, fmt.Errorf("cannot read what iperf3 says: %w", err)
	}
	if said.Error != "" || said.End.Received.Rate == 0 {
		return 0, fmt.Errorf("iperf3: %q, nothing was received", said.Error)
	}
	return 8e9 / said.End.Received.Rate * 1000, nil
}

// get asks one after the other, each on a connection of its own.
func get(url string, times int) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for range times {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// hostAddress is an IPv4 address of this host that is not loopback, or "".
func hostAddress() string {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

// plainBridge is what is between two containers, without anybody's work: two
// namespaces with a pair of interfaces each, on a bridge.
const plainBridge = `set -e
ip link add br0 type bridge; ip link set br0 mtu 65520 up
for i in 1 2; do
	unshare -n sleep 60 & pid=$!
	eval "pid$i=$pid"
	while [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
	ip link add v$i mtu 65520 type veth peer name eth0 mtu 65520 netns $pid
	ip link set v$i master br0 up
	nsenter -t $pid -n sh -c "ip addr add 10.99.0.$i/24 dev eth0; ip link set eth0 up"
done
nsenter -t $pid1 -n /usr/bin/iperf3 -s -1 >/dev/null & server=$!
sleep 0.3
nsenter -t $pid2 -n /usr/bin/iperf3 -c 10.99.0.1 -t ` + seconds + ` -J
kill $pid1 $pid2`
