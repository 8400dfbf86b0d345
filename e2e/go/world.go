package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"google.golang.org/grpc"
)

// How long a transaction may take to end.
const end = 20 * time.Second

// amount is what branches are told.
type amount struct {
	Pieces int `json:"pieces"`
}

// world is the server under test, and the services that take part.
type world struct {
	dtm, dtmGrpc   string
	base, grpcBase string
	mux            *http.ServeMux
	grpcServer     *grpc.Server
	grpcListener   net.Listener
	calls          calls
}

// calls are those of branches, by transaction, in the order in which they came.
type calls struct {
	mutex sync.Mutex
	of    map[string][]string
	times map[string]int
}

func newWorld(dtm, dtmGrpc string) *world {
	w := &world{dtm: dtm, dtmGrpc: dtmGrpc, mux: http.NewServeMux()}
	w.calls.of, w.calls.times = map[string][]string{}, map[string]int{}
	return w
}

// add writes a call down; it gives how many of this name there have been in this transaction.
func (c *calls) add(gid, call string) int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.of[gid] = append(c.of[gid], call)
	c.times[gid+call]++
	return c.times[gid+call]
}

func (c *calls) list(gid string) []string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return append([]string(nil), c.of[gid]...)
}

func (w *world) listenHTTP() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	w.base = "http://" + listener.Addr().String()
	w.mux.HandleFunc("/", w.branch)
	go func() { must(http.Serve(listener, w.mux)) }()
}

// branch answers as the last part of its path says; see verdict.
func (w *world) branch(out http.ResponseWriter, in *http.Request) {
	query := in.URL.Query()
	body, err := io.ReadAll(in.Body)
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	if len(body) > 0 && !json.Valid(body) {
		http.Error(out, "not JSON", http.StatusBadRequest)
		return
	}
	name := strings.TrimPrefix(in.URL.Path, "/")
	times := w.calls.add(query.Get("gid"), fmt.Sprintf("%s/%s %s", query.Get("op"), query.Get("branch_id"), name))
	switch verdict(name, times) {
	case no:
		out.WriteHeader(http.StatusConflict)
		fmt.Fprint(out, `{"dtm_result":"FAILURE","message":"sold out"}`)
	case later:
		out.WriteHeader(http.StatusTooEarly)
		fmt.Fprint(out, `{"dtm_result":"ONGOING"}`)
	case broken:
		http.Error(out, "broken", http.StatusInternalServerError)
	default:
		fmt.Fprint(out, `{"dtm_result":"SUCCESS"}`)
	}
}

// What a branch may answer.
const (
	yes = iota
	no
	later
	broken
)

// verdict is in the name: `in-no` refuses, `in-later` and `in-broken` succeed when asked again.
func verdict(name string, times int) int {
	switch {
	case strings.HasSuffix(name, "-no"):
		return no
	case strings.HasSuffix(name, "-later") && times == 1:
		return later
	case strings.HasSuffix(name, "-broken") && times == 1:
		return broken
	default:
		return yes
	}
}

func (w *world) url(path string) string {
	return w.base + "/" + path
}

// outcome waits until the transaction has ended and says how; err is what the client was told.
func (w *world) outcome(gid string, err error) string {
	status, reason := w.await(gid)
	line := status
	if strings.Contains(reason, "sold out") {
		line += " (sold out)"
	}
	if err != nil {
		line += ", " + told(err)
	}
	return line + " | " + strings.Join(w.calls.list(gid), ", ")
}

func told(err error) string {
	if errors.Is(err, dtmcli.ErrFailure) || strings.Contains(err.Error(), "FAILURE") {
		return "told FAILURE"
	}
	return "told " + err.Error()
}

// await gives status and reason once the transaction has ended, or what it was like when time was over.
func (w *world) await(gid string) (status, reason string) {
	for begun := time.Now(); time.Since(begun) < end; time.Sleep(20 * time.Millisecond) {
		status, reason = w.status(gid)
		if status == dtmcli.StatusSucceed || status == dtmcli.StatusFailed {
			return status, reason
		}
	}
	return "not ended, " + status, reason
}

func (w *world) status(gid string) (status, reason string) {
	response, err := http.Get(w.dtm + "/query?gid=" + gid)
	if err != nil {
		return err.Error(), ""
	}
	defer response.Body.Close()
	var found struct {
		Transaction struct {
			Status         string `json:"status"`
			RollbackReason string `json:"rollback_reason"`
		} `json:"transaction"`
	}
	if err := json.NewDecoder(response.Body).Decode(&found); err != nil {
		return err.Error(), ""
	}
	return found.Transaction.Status, found.Transaction.RollbackReason
}
